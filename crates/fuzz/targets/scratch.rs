//! Readers take paths, so that they can map what is there: each process has one file of its own.

use std::path::PathBuf;

/// Writes `bytes` to this process's file.
pub fn file(bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("embergem-fuzz-{}", std::process::id()));
    std::fs::write(&path, bytes).expect("the temporary directory can be written");
    path
}
