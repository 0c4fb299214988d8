//! What one start leaves for the next, in the directory that Python uses, too: packed weights, and the note that the
//! files were read to their end.

use crate::error::{Error, Result};
use crate::resolve::cache_root;
use crate::source::Source;
use embergem_core::{Memo, PackedCache, parse_size};
use std::env;
use std::path::{Path, PathBuf};

/// Bounds the packed weights of all models together, such as `2GB`; `0` keeps none.
const VARIABLE: &str = "EMBERGEM_PACKED_LIMIT";
const DEFAULT: &str = "10GB";

/// The places for one model.
pub(crate) struct Kept {
    packed: Option<PathBuf>,
    limit: u64,
    scanned: Option<Memo>,
}

impl Kept {
    /// Those for the files of `source`. Without a cache directory nothing is kept.
    pub fn of(source: &Source) -> Result<Self> {
        let text = env::var(VARIABLE).ok().filter(|text| !text.is_empty());
        let text = text.as_deref().unwrap_or(DEFAULT);
        let limit = parse_size(text).ok_or_else(|| {
            Error::Management(format!(
                "{VARIABLE}={text:?} is not a size; give one such as \"2GB\", or \"0\" to keep nothing"
            ))
        })?;
        let root = cache_root();
        let files = source.weights.iter().map(|(_, path)| path.as_path());
        Ok(Self {
            packed: root.as_ref().filter(|_| limit > 0).map(|root| root.join("packed")),
            limit,
            scanned: root.and_then(|root| Memo::new(&root, "scanned", files, &[])),
        })
    }

    /// Where packed weights are.
    pub fn packed(&self) -> Option<PackedCache<'_>> {
        let directory: &Path = self.packed.as_deref()?;
        Some(PackedCache {
            directory,
            limit: self.limit,
        })
    }

    /// Whether these files, unchanged since, were found sound.
    pub fn scanned(&self) -> bool {
        self.scanned.as_ref().is_some_and(|note| note.read().is_some())
    }

    /// Notes that they are.
    pub fn remember(&self) {
        if let Some(note) = &self.scanned {
            note.write("");
        }
    }
}
