//! Results of one load that the next load reuses: packed weights, and results about the state of files. They are in the
//! cache directory of the Python package, which reads and writes the same files.

use crate::error::{Error, Result};
use crate::paths::cache_root;
use embergem_core::{Memo, PackedCache, parse_size};
use std::env;
use std::path::{Path, PathBuf};

/// Most bytes of the packed weights of all models together, such as `2GB`; `0` stores none.
const VARIABLE: &str = "EMBERGEM_PACKED_LIMIT";
const DEFAULT: &str = "10GB";

/// The cache directory; without one nothing is stored.
pub(crate) struct Cache {
    root: Option<PathBuf>,
    packed: PathBuf,
    limit: u64,
}

impl Cache {
    /// The cache directory that the environment names.
    ///
    /// # Errors
    /// [`Error::Management`] if `EMBERGEM_PACKED_LIMIT` is not a size.
    pub fn from_env() -> Result<Self> {
        let text = env::var(VARIABLE).ok().filter(|text| !text.is_empty());
        let text = text.as_deref().unwrap_or(DEFAULT);
        let limit = parse_size(text).ok_or_else(|| {
            Error::Management(format!(
                "{VARIABLE}={text:?} is not a size. Give one such as \"2GB\", or \"0\" to store no packed weights."
            ))
        })?;
        Ok(Self::at(cache_root(), limit))
    }

    /// The cache directory `root`, with at most `limit` bytes of packed weights.
    pub fn at(root: Option<PathBuf>, limit: u64) -> Self {
        Self {
            packed: root.as_deref().unwrap_or(Path::new("")).join("packed"),
            root,
            limit,
        }
    }

    /// The directory of results about files.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// The directory of packed weights.
    pub fn packed(&self) -> Option<PackedCache<'_>> {
        (self.root.is_some() && self.limit > 0).then_some(PackedCache {
            directory: &self.packed,
            limit: self.limit,
        })
    }

    /// The directory of tokenizers; none if no packed weights are stored.
    pub fn tables(&self) -> Option<PathBuf> {
        let root = self.root.as_ref().filter(|_| self.limit > 0)?;
        Some(root.join("tokenizers"))
    }

    /// The result `kind` about exactly these files, unchanged since; `variant` lists everything else that it depends on.
    pub fn memo<'a>(&self, kind: &str, files: impl IntoIterator<Item = &'a Path>, variant: &[&str]) -> Option<Memo> {
        Memo::new(self.root()?, kind, files, variant)
    }
}
