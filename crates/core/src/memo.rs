//! Small facts about files that take long to find out, remembered in a directory for each state of the files: path,
//! size and time of change.

use crate::fingerprint::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The place of one fact.
pub struct Note {
    path: PathBuf,
}

impl Note {
    /// The place of what is known about exactly these files, unchanged since. `kind` names the sort of fact, `variant`
    /// whatever else it depends on. `None` if one of the files cannot be looked at.
    pub fn new<'a>(
        directory: &Path,
        kind: &str,
        files: impl IntoIterator<Item = &'a Path>,
        variant: &[&str],
    ) -> Option<Self> {
        let state = state(files).ok()?;
        let key = serde_json::json!([state, variant]).to_string();
        let name = &hex(&Sha256::digest(key))[..32];
        Some(Self {
            path: directory.join(kind).join(name),
        })
    }

    /// What was noted.
    pub fn read(&self) -> Option<String> {
        fs::read_to_string(&self.path).ok()
    }

    /// Notes it. Where that is not possible it is merely found out again next time.
    pub fn write(&self, content: &str) {
        let _ = write_atomically(&self.path, |file| io::Write::write_all(file, content.as_bytes()));
    }
}

/// What a file was like: its path, size and time of change in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// With every link followed.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    changed: u64,
}

/// The state of each file, in order.
pub fn state<'a>(files: impl IntoIterator<Item = &'a Path>) -> io::Result<Vec<FileState>> {
    let files = files.into_iter().map(|path| {
        let path = fs::canonicalize(path)?;
        let about = fs::metadata(&path)?;
        let changed = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(FileState {
            path,
            size: about.len(),
            changed: changed.as_nanos() as u64,
        })
    });
    files.collect()
}

/// A name beside `path` that no other process or thread writes to. The time is part of it: in a container each start may
/// have the same process id, and find what one that was killed has left.
pub fn scratch(path: &Path) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    path.with_extension(format!("{}-{}-{number}.new", std::process::id(), now.as_nanos()))
}

/// Writes a file that is there whole or not at all: beside its place, then moved into it.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut fs::File) -> io::Result<()>) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let scratch = scratch(path);
    let written = fs::File::create(&scratch)
        .and_then(|mut file| write(&mut file))
        .and_then(|()| fs::rename(&scratch, path));
    if written.is_err() {
        let _ = fs::remove_file(&scratch);
    }
    written
}
