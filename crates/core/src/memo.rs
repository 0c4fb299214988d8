//! A cache on disk for results that are expensive to compute from files, keyed by the state of the files.

use crate::error::Result;
use crate::files::{FileStates, write_atomically};
use crate::hex::sha256_hex;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The cache entry of one result.
pub struct Memo {
    path: PathBuf,
    files: FileStates,
}

impl Memo {
    /// Returns the entry for exactly these files in their present state.
    ///
    /// `kind` names the sort of result and is a subdirectory of `directory`. `variant` is everything else that the
    /// result depends on. Returns `None` if the metadata of one of the files cannot be read.
    pub fn new<'a>(
        directory: &Path,
        kind: &str,
        files: impl IntoIterator<Item = &'a Path>,
        variant: &[&str],
    ) -> Option<Self> {
        let files = FileStates::of(files).ok()?;
        let key = serde_json::json!([files.states(), variant]).to_string();
        let name = &sha256_hex(&key)[..32];
        Some(Self {
            path: directory.join(kind).join(name),
            files,
        })
    }

    /// Returns the stored result, or `None` if there is none.
    pub fn read(&self) -> Option<String> {
        fs::read_to_string(&self.path).ok()
    }

    /// Checks that the files are in the state of this entry.
    ///
    /// # Errors
    /// [`crate::Error::Changed`] with the first file that is in another state.
    pub fn require_unchanged(&self) -> Result<()> {
        self.files.require_unchanged()
    }

    /// Stores the result, unless the files changed meanwhile: it may have been computed from other bytes. A failed write
    /// is ignored: the next process computes the result again.
    pub fn write(&self, content: &str) {
        if self.require_unchanged().is_err() {
            return;
        }
        let _ = write_atomically(&self.path, |file| io::Write::write_all(file, content.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process;

    #[test]
    fn an_entry_belongs_to_one_state_of_the_files() {
        let directory = std::env::temp_dir().join(format!("embergem-memo-{}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("model.safetensors");
        fs::write(&file, "a").unwrap();
        let memo = |variant: &[&str]| Memo::new(&directory, "kind", [file.as_path()], variant).unwrap();
        memo(&["x"]).write("result");
        assert_eq!(memo(&["x"]).read().as_deref(), Some("result"));
        assert_eq!(memo(&["y"]).read(), None);
        let stale = memo(&["z"]);
        fs::write(&file, "another size").unwrap();
        assert_eq!(memo(&["x"]).read(), None);
        stale.write("of other bytes");
        fs::write(&file, "a").unwrap();
        assert_eq!(stale.read(), None);
        fs::remove_file(&file).unwrap();
        assert!(Memo::new(&directory, "kind", [file.as_path()], &[]).is_none());
        fs::remove_dir_all(directory).unwrap();
    }
}
