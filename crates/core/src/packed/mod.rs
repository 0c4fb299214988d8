//! Packed weights in files: a later start maps such a file instead of packing the weights again.
//!
//! A file has the packed matrices of one program, each aligned to a page, and after them a description: the state of
//! the checkpoint's files, the program, the precision, the kernels and the build. It is written under a temporary name
//! and then renamed. Every start compares the checksum of each matrix, and a damaged file is written again. Files whose
//! checkpoint has changed or is gone are removed; then the least recently used ones, until all files together stay
//! below a limit.

pub mod directory;
mod file;
pub mod weight;

use self::directory::{prune, remove_abandoned};
use self::file::{Contents, Reader, StoredMatrix, Writer};
use crate::aligned::Aligned;
use crate::error::Result;
use crate::files::FileStates;
use crate::kernels::panels::{Format, Packed, Shape};
use crate::mapped::Part;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Name of this build. Another build may use another layout of packed weights, so its files are not used.
pub const BUILD: &str = env!("EMBERGEM_BUILD");

/// The directory of packed weights and its size limit.
#[derive(Clone, Copy, Debug)]
pub struct PackedCache<'a> {
    /// The directory. It is created when needed.
    pub directory: &'a Path,
    /// Largest size of all files together, in bytes.
    pub limit: u64,
}

/// Parses a size such as `2GB` or `500 M` to bytes. Units are powers of 1,000. Returns `None` for any other text.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_uppercase();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = (text[..digits].parse::<f64>().ok()?, text[digits..].trim_start());
    let power = ["", "K", "M", "G", "T"]
        .iter()
        .position(|prefix| unit == *prefix || unit.strip_suffix('B') == Some(prefix))?;
    Some((number * 1000f64.powi(power as i32)) as u64)
}

/// How many weights of a load are packed, for another thread that shows it to a person.
#[derive(Debug, Default)]
pub struct PackProgress {
    packed: AtomicU64,
    total: AtomicU64,
}

impl PackProgress {
    /// Adds weights that will be packed. Biases and other small weights count, although they are not packed. A load that
    /// measures something packs the weights more than once.
    pub fn expect(&self, weights: u64) {
        self.total.fetch_add(weights, Ordering::Relaxed);
    }

    /// Returns the number of weights that are packed, and of all; both are 0 until they are known, and if the weights
    /// are read from a file of packed weights.
    pub fn read(&self) -> (u64, u64) {
        let total = self.total.load(Ordering::Relaxed);
        (self.packed.load(Ordering::Relaxed).min(total), total)
    }
}

/// The packed matrices of one load, in the order of the program: read from a file, or written to one.
pub struct PackedMatrices {
    source: Source,
    /// What another thread sees of the packing.
    pub progress: Arc<PackProgress>,
    /// State of the checkpoint's files before they were read.
    files: FileStates,
    /// Where the matrices are in mapped files.
    parts: Vec<Part>,
}

enum Source {
    /// There is no cache: matrices are packed and not stored.
    Memory,
    /// No matrix is packed.
    Unpacked,
    /// The cache has a file. The number counts the matrices that were taken from it.
    Stored(Reader, usize),
    /// Matrices are packed and written to a new file (`None` after a failed write). The other two values are the
    /// directory and its size limit.
    New(Option<Writer>, PathBuf, u64),
}

impl PackedMatrices {
    /// Looks up the file that was packed from these checkpoint files with the same `variant`, or begins a new one.
    ///
    /// `variant` is everything else that decides the content: precision, kernels and program.
    pub fn open<'a>(
        cache: Option<PackedCache<'_>>,
        files: impl IntoIterator<Item = &'a Path>,
        variant: &[&str],
    ) -> Self {
        let files = FileStates::of(files);
        let source = match (cache, &files) {
            (Some(cache), Ok(files)) => {
                let contents = Contents::new(files.states().to_vec(), BUILD, variant);
                let path = contents.path(cache.directory);
                match Reader::open(&path, &contents) {
                    Some(reader) => Source::Stored(reader, 0),
                    None => {
                        remove_abandoned(cache.directory);
                        let writer = Writer::create(&path, contents, cache.limit).ok();
                        Source::New(writer, cache.directory.to_owned(), cache.limit)
                    }
                }
            }
            _ => Source::Memory,
        };
        Self {
            source,
            files: files.unwrap_or_default(), // the checkpoint refuses a file without metadata
            parts: Vec::new(),
            progress: Arc::default(),
        }
    }

    /// Packs matrices and stores none.
    pub fn in_memory() -> Self {
        Self::without_files(Source::Memory)
    }

    /// Gives matrices without values, for a model that packs them when it needs them.
    pub fn unpacked() -> Self {
        Self::without_files(Source::Unpacked)
    }

    fn without_files(source: Source) -> Self {
        Self {
            source,
            files: FileStates::default(),
            parts: Vec::new(),
            progress: Arc::default(),
        }
    }

    /// Returns whether the cache has a file, so that nothing needs to be packed.
    pub fn is_stored(&self) -> bool {
        matches!(self.source, Source::Stored(..))
    }

    /// Returns the next matrix: mapped if it is stored, without values if none is packed, else packed by `pack` and written
    /// to the new file.
    ///
    /// # Errors
    /// Those of `pack`.
    pub fn next<F: Format>(
        &mut self,
        shape: Shape,
        lanes: usize,
        pack: impl FnOnce() -> Result<Packed<F>>,
    ) -> Result<Packed<F>> {
        let progress = Arc::clone(&self.progress);
        let pack = || {
            let packed = pack()?;
            let weights = shape.rows().unwrap_or_default().saturating_mul(shape.k);
            progress.packed.fetch_add(weights as u64, Ordering::Relaxed);
            Ok(packed)
        };
        let StoredMatrix { data, part } = match &mut self.source {
            Source::Stored(reader, taken) => {
                let matrix = reader.matrix(*taken);
                *taken += 1;
                match matrix.filter(|matrix| matrix.data.len() == Packed::<F>::len_of(shape, lanes)) {
                    Some(matrix) => matrix,
                    None => return pack(),
                }
            }
            Source::New(writer, ..) => {
                let packed = pack()?;
                let Some(open) = writer.take() else {
                    return Ok(packed);
                };
                let (open, matrix) = open.append(packed.into_data());
                *writer = open;
                matrix
            }
            Source::Memory => return pack(),
            Source::Unpacked => return Ok(Packed::from_data(shape, lanes, Aligned::default().into())),
        };
        self.parts.extend(part);
        Ok(Packed::from_data(shape, lanes, data))
    }

    /// Completes a new file after the last matrix and removes old files. If the file cannot be written, the weights are
    /// packed again at the next start.
    ///
    /// Returns the parts of mapped files that the matrices are in.
    ///
    /// # Errors
    /// [`crate::Error::Changed`] if a file of the checkpoint was changed or replaced while it was read: the weights could
    /// be of two models.
    pub fn finish(self) -> Result<Vec<Part>> {
        self.files.require_unchanged()?;
        if let Source::New(Some(writer), directory, limit) = self.source
            && writer.finish().is_ok()
        {
            prune(&directory, limit);
        }
        Ok(self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::fs;

    #[test]
    fn weights_of_a_replaced_file_are_not_stored() {
        let directory = std::env::temp_dir().join(format!("embergem-replaced-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("model.safetensors");
        let (packed, limit) = (directory.join("packed"), 1 << 20);
        let cache = PackedCache {
            directory: &packed,
            limit,
        };
        let open = || PackedMatrices::open(Some(cache), [file.as_path()], &[]);
        fs::write(&file, "old").unwrap();
        let matrices = open();
        fs::write(&file, "newer").unwrap();
        let refused = matrices.finish().err();
        assert!(
            matches!(&refused, Some(Error::Changed(path)) if *path == file),
            "{refused:?}"
        );
        assert_eq!(fs::read_dir(&packed).unwrap().count(), 0);

        open().finish().unwrap();
        let matrices = open();
        assert!(matrices.is_stored());
        fs::remove_file(&file).unwrap();
        assert!(matrices.finish().is_err());
        fs::remove_dir_all(directory).unwrap();
    }
}
