//! The directory of packed weights: listing its files and removing old ones.

use super::file::{Contents, EXTENSION};
use crate::files::FileStates;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Age at which a temporary file counts as abandoned by a process that ended.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A file of packed weights.
#[derive(Debug)]
pub struct PackedFile {
    /// Path of the file.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// Time of the last use.
    pub used: SystemTime,
    /// Description of the content; `None` if the file is damaged.
    pub contents: Option<Contents>,
}

/// Returns all files of packed weights, least recently used first.
pub fn packed_files(directory: &Path) -> Vec<PackedFile> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension() == Some(EXTENSION.as_ref()));
    let mut all: Vec<PackedFile> = paths
        .filter_map(|path| {
            let metadata = fs::metadata(&path).ok()?;
            Some(PackedFile {
                bytes: metadata.len(),
                used: metadata.modified().ok()?,
                contents: File::open(&path).ok().and_then(|mut file| Contents::read(&mut file)),
                path,
            })
        })
        .collect();
    all.sort_by_key(|file| file.used);
    all
}

/// Removes files that no start can use again, then the least recently used ones until all files together have at most
/// `limit` bytes. A process that has mapped a removed file keeps its data.
pub fn prune(directory: &Path, limit: u64) {
    let usable = |contents: &Contents| {
        FileStates::of(contents.files.iter().map(|file| file.path.as_path()))
            .is_ok_and(|now| now.states() == contents.files)
    };
    let (usable_files, stale_files): (Vec<PackedFile>, Vec<PackedFile>) = packed_files(directory)
        .into_iter()
        .partition(|file| file.contents.as_ref().is_some_and(usable));
    let mut excess = usable_files
        .iter()
        .map(|file| file.bytes)
        .sum::<u64>()
        .saturating_sub(limit);
    let oldest = usable_files.into_iter().take_while(|file| {
        let remove = excess > 0;
        excess = excess.saturating_sub(file.bytes);
        remove
    });
    for file in stale_files.into_iter().chain(oldest) {
        let _ = fs::remove_file(file.path); // another process may have removed it
    }
}

/// Removes temporary files of processes that ended before they completed them.
pub fn remove_abandoned(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|time| time.elapsed().ok());
        if entry.path().extension() == Some("new".as_ref()) && age.is_some_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_file_is_removed_and_a_recent_one_is_not() {
        let directory = std::env::temp_dir().join(format!("embergem-abandoned-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (old, young) = (directory.join("old.new"), directory.join("young.new"));
        let long_ago = SystemTime::now() - 2 * ABANDONED;
        File::create(&old).unwrap().set_modified(long_ago).unwrap();
        File::create(&young).unwrap();
        remove_abandoned(&directory);
        assert!(!old.exists());
        assert!(young.exists(), "another process may still write it");
        fs::remove_dir_all(directory).unwrap();
    }
}
