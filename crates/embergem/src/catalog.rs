//! The models that embergem knows by name: the catalog of the Python package, and what follows from it.

use crate::cards::equal;
use crate::sha256;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::OnceLock;

/// A known model. The Python package documents all fields (`src/embergem/catalog.py`) and checks the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Entry {
    /// Name on the hub.
    pub id: String,
    /// Further names.
    pub aliases: Vec<String>,
    /// `model_type` of config.json.
    pub family: String,
    /// Size of a vector.
    pub dimensions: usize,
    /// Most tokens of one input, as its authors publish it.
    pub limit: usize,
    /// Sizes that Matryoshka training covered, besides `dimensions`.
    pub smaller_dimensions: Vec<usize>,
    /// Matryoshka training covered every size from this one.
    pub smallest_dimension: Option<usize>,
    /// A layer norm without weights comes before a vector is shortened.
    pub norm_before_cut: bool,
    /// Files with known digests.
    pub files: Vec<PinnedFile>,
    /// The published files name code (`auto_map`) that computes what the family here computes.
    pub remote_code: bool,
    /// Id of a model with the same files that needs no account.
    pub mirror: Option<String>,
    /// Text that is shown each time the model is used.
    pub notice: Option<String>,
    /// Set of prompts in crates/text for prompts that the checkpoint does not have.
    pub prompts: Option<String>,
    /// Published similarities.
    pub golden: Option<Golden>,
    /// Sliding window as config.json stores it.
    pub window: Option<usize>,
    /// Number of dense layers after pooling.
    pub dense: Option<usize>,
    /// Special token before every text.
    pub opening: Option<u32>,
    /// Special token after every text.
    pub closing: Option<u32>,
    /// Number of layers, of a model that shares its shape with others.
    pub layers: Option<usize>,
    /// Number of token ids, of a model that shares its shape with others.
    pub vocabulary: Option<usize>,
    /// Pooling, of a model that shares its shape with others.
    pub pooling: Option<String>,
    /// Fields of the family's config by which a fine-tune is recognised.
    pub shape: Map<String, Value>,
    /// Fields of the family's config that a fine-tune has in common with the model.
    pub config: Map<String, Value>,
}

/// A file and the digest that it must have.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PinnedFile {
    /// Path in the model's directory.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Sha256 in hex, or its beginning if only that is known.
    pub sha256: String,
}

/// Published cosine similarities of each query with each document.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Golden {
    /// Texts of the rows.
    pub queries: Vec<String>,
    /// Texts of the columns.
    pub documents: Vec<String>,
    /// A row for each query.
    pub similarities: Vec<Vec<f64>>,
    /// Largest difference that rounding explains.
    pub tolerance: f64,
    /// Where the similarities were published.
    pub source: String,
    /// Task of the queries.
    pub query_task: Option<String>,
    /// Task of the documents.
    pub document_task: Option<String>,
}

impl Entry {
    /// Whether the config of a family (`fields`) has the shape of this model.
    pub fn has_shape(&self, fields: &Map<String, Value>) -> bool {
        let same = |name: &str, wanted: &Value| fields.get(name).is_some_and(|found| equal(wanted, found));
        let sizes = [
            ("hidden_size", Some(self.dimensions)),
            ("num_hidden_layers", self.layers),
            ("vocab_size", self.vocabulary),
        ];
        self.shape.iter().all(|(name, wanted)| same(name, wanted))
            && (self.layers.is_none() || sizes.iter().all(|(name, size)| same(name, &Value::from(*size))))
    }

    /// Sizes that vectors may have, besides `dimensions`.
    pub fn shorter(&self) -> Vec<usize> {
        match self.smallest_dimension {
            Some(smallest) => (smallest..self.dimensions).collect(),
            None => self.smaller_dimensions.clone(),
        }
    }
}

impl Entry {
    /// Whether `files` contain the weights with the bytes that the entry pins. Files of other sizes are not read.
    pub fn has_weights(&self, files: &[&Path]) -> bool {
        let mut pins = self
            .files
            .iter()
            .filter(|pin| pin.path.ends_with(".safetensors"))
            .peekable();
        pins.peek().is_some() && pins.all(|pin| files.iter().any(|path| pin.has_bytes(path)))
    }
}

impl PinnedFile {
    fn has_bytes(&self, path: &Path) -> bool {
        path.ends_with(&self.path)
            && path.metadata().is_ok_and(|metadata| metadata.len() == self.size)
            && sha256::of_file(path).is_ok_and(|digest| digest.starts_with(&self.sha256))
    }
}

/// Whether a model of this family, with these weight files, is one whose own code computes what embergem computes.
pub(crate) fn has_known_code(family: &str, files: &[&Path]) -> bool {
    let mut known = entries()
        .iter()
        .filter(|entry| entry.remote_code && entry.family == family);
    known.any(|entry| entry.has_weights(files))
}

/// All entries.
pub(crate) fn entries() -> &'static [Entry] {
    static CATALOG: OnceLock<Vec<Entry>> = OnceLock::new();
    CATALOG.get_or_init(|| {
        let text = include_str!("../../../src/embergem/catalog.json");
        serde_json::from_str(text).expect("a test of this crate parses this file")
    })
}

/// The entry with this id or alias, ignoring case.
pub(crate) fn find(name: &str) -> Option<&'static Entry> {
    let same = |known: &String| known.eq_ignore_ascii_case(name);
    let mut entries = entries().iter();
    entries.find(|entry| same(&entry.id) || entry.aliases.iter().any(same))
}

/// The entry called `name` if it is of this family: a directory may have the name of a model by chance.
pub(crate) fn known(name: &str, family: &str) -> Option<&'static Entry> {
    find(name).filter(|entry| entry.family == family)
}

/// The entry of the model that a checkpoint of this family was fine-tuned from, if nothing says that it is that model.
///
/// It is the model that the files name (`declared`), if the checkpoint has its shape: a model may have changed since it
/// was named. Otherwise it is the model whose shape no other model has. `fields` is the family's config.
pub(crate) fn base_model(family: &str, fields: &Map<String, Value>, declared: &[&str]) -> Option<&'static Entry> {
    let named = declared.iter().filter_map(|name| find_by_name(name, family));
    let mut named =
        named.filter(|entry| (!entry.shape.is_empty() || entry.layers.is_some()) && entry.has_shape(fields));
    named.next().or_else(|| {
        let mut of_family = entries().iter().filter(|entry| entry.family == family);
        of_family.find(|entry| !entry.shape.is_empty() && entry.has_shape(fields))
    })
}

/// The value that `field` gives for all entries of a family; none if they differ or there are none.
pub(crate) fn shared<T: PartialEq>(family: &str, field: impl Fn(&Entry) -> T) -> Option<T> {
    let mut values = entries().iter().filter(|entry| entry.family == family).map(field);
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

/// All ids and aliases.
pub(crate) fn names() -> Vec<&'static str> {
    let names = entries()
        .iter()
        .flat_map(|entry| std::iter::once(&entry.id).chain(&entry.aliases));
    names.map(String::as_str).collect()
}

/// The entry of this family that a path, an address or a title names; spaces, case and signs are ignored.
fn find_by_name(name: &str, family: &str) -> Option<&'static Entry> {
    let last = name.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next();
    let wanted = [letters(name), letters(last.unwrap_or_default())];
    let named = |name: &str| wanted.contains(&letters(name));
    entries().iter().filter(|entry| entry.family == family).find(|entry| {
        let short = entry.id.rsplit('/').next();
        named(&entry.id) || short.is_some_and(named) || entry.aliases.iter().any(|alias| named(alias))
    })
}

/// Letters and digits of a name, in lower case.
fn letters(name: &str) -> String {
    name.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(hidden: usize, layers: usize, vocabulary: usize) -> Map<String, Value> {
        let fields = json!({"hidden_size": hidden, "num_hidden_layers": layers, "vocab_size": vocabulary});
        fields.as_object().unwrap().clone()
    }

    #[test]
    fn models_are_found_by_id_and_alias() {
        assert_eq!(find("MiniLM").unwrap().id, "sentence-transformers/all-MiniLM-L6-v2");
        assert_eq!(find("embeddinggemma").unwrap().id, "google/embeddinggemma-300m");
        assert!(find("minilmm").is_none());
        assert!(names().contains(&"minilm"));
        assert!(known("minilm", "qwen3").is_none());
    }

    #[test]
    fn models_are_recognised_by_what_their_files_say() {
        let base = fields(768, 12, 30522);
        let found = |declared: &[&str]| base_model("bert", &base, declared).map(|entry| entry.id.as_str());
        assert_eq!(
            found(&["model", "https://huggingface.co/intfloat/e5-base-v2"]),
            Some("intfloat/e5-base-v2")
        );
        assert_eq!(found(&["Gte Base"]), Some("thenlper/gte-base"));
        assert_eq!(found(&["BAAI/bge-small-en-v1.5", ""]), None, "it has another shape");
        let mut gemma = find("embeddinggemma-2").unwrap().shape.clone();
        assert_eq!(
            base_model("embedding_gemma2", &gemma, &["anything"]).unwrap().limit,
            8192
        );
        gemma.insert("hidden_size".into(), json!(1));
        assert!(base_model("embedding_gemma2", &gemma, &[]).is_none());
    }

    #[test]
    fn a_family_shares_what_all_its_entries_have() {
        assert_eq!(shared("gemma3_text", |entry| entry.dense), Some(Some(2)));
        assert_eq!(shared("bert", |entry| entry.prompts.clone()), None);
    }
}
