//! A temporary file for each process: the readers take paths, because they map files.

use std::path::PathBuf;

/// Writes `bytes` to the file of this process and returns its path.
pub fn file(bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("embergem-fuzz-{}", std::process::id()));
    std::fs::write(&path, bytes).expect("the temporary directory can be written");
    path
}
