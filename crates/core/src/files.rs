//! The state of files, by which cached results are keyed, and atomic writes.

use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Path, size and modification time of a file. A changed state means that the content may have changed.
///
/// Cached results are named by a hash of this value as JSON, so the names of its fields are part of the cache's format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// Canonical path: all symbolic links are resolved.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// Modification time in nanoseconds since 1970.
    #[serde(rename = "changed")]
    modified: u64,
}

/// Reads the state of each file, in order.
///
/// # Errors
/// The I/O error of the first file whose metadata cannot be read.
pub fn file_states<'a>(files: impl IntoIterator<Item = &'a Path>) -> io::Result<Vec<FileState>> {
    let files = files.into_iter().map(|path| {
        let path = fs::canonicalize(path)?;
        let metadata = fs::metadata(&path)?;
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(FileState {
            path,
            size: metadata.len(),
            modified: modified.as_nanos() as u64,
        })
    });
    files.collect()
}

/// Returns a path beside `path` that no other process or thread writes to.
///
/// The name contains the time: in a container each start may have the same process id, and a killed process may have
/// left a temporary file behind.
pub fn temporary_path(path: &Path) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    path.with_extension(format!("{}-{}-{number}.new", std::process::id(), now.as_nanos()))
}

/// Writes a file atomically: `write` fills a temporary file in the same directory, which is then renamed to `path`.
///
/// # Errors
/// The I/O error of any step; the temporary file is removed.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut fs::File) -> io::Result<()>) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let temporary = temporary_path(path);
    let written = fs::File::create(&temporary)
        .and_then(|mut file| write(&mut file))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary); // the write error is the one to report
    }
    written
}
