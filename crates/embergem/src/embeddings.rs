//! The result of a request.

/// Vectors in the order of their inputs, in one allocation, with token counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    pub(crate) vectors: Vec<f32>,
    pub(crate) dimensions: usize,
    pub(crate) tokens: usize,
    pub(crate) truncated: Vec<usize>,
}

impl Embeddings {
    /// Number of vectors.
    pub fn len(&self) -> usize {
        self.vectors.len() / self.dimensions
    }

    /// Always false: a request has at least one input.
    pub fn is_empty(&self) -> bool {
        self.vectors.is_empty()
    }

    /// Size of a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The vector of input `index`.
    pub fn get(&self, index: usize) -> Option<&[f32]> {
        self.iter().nth(index)
    }

    /// Iterates over the vectors.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, f32> {
        self.vectors.chunks_exact(self.dimensions)
    }

    /// Number of tokens that the model read, special tokens and prompts included.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Positions of the inputs that were cut to the model's limit, which the request must allow.
    pub fn truncated(&self) -> &[usize] {
        &self.truncated
    }

    /// All floats, vector by vector.
    pub fn as_flat(&self) -> &[f32] {
        &self.vectors
    }

    /// All floats, vector by vector, without copying them.
    pub fn into_flat(self) -> Vec<f32> {
        self.vectors
    }

    /// One `Vec` for each vector.
    pub fn into_vecs(self) -> Vec<Vec<f32>> {
        if self.vectors.len() == self.dimensions {
            return vec![self.vectors];
        }
        self.iter().map(<[f32]>::to_vec).collect()
    }
}

impl<'a> IntoIterator for &'a Embeddings {
    type Item = &'a [f32];
    type IntoIter = std::slice::ChunksExact<'a, f32>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
