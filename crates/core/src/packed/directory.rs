//! The directory of packed weights: which files it has, and which of them go.

use super::file::{Contents, EXTENSION};
use crate::files::file_states;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How old an unfinished file is before it counts as left behind.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A file of the cache.
#[derive(Debug)]
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// When it was used last.
    pub used: SystemTime,
    /// What it holds; `None` if it is damaged.
    pub contents: Option<Contents>,
}

/// All files of the cache, the longest unused first.
pub fn kept(directory: &Path) -> Vec<Kept> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension() == Some(EXTENSION.as_ref()));
    let mut all: Vec<Kept> = paths
        .filter_map(|path| {
            let about = fs::metadata(&path).ok()?;
            Some(Kept {
                bytes: about.len(),
                used: about.modified().ok()?,
                contents: File::open(&path).ok().and_then(|mut file| Contents::read(&mut file)),
                path,
            })
        })
        .collect();
    all.sort_by_key(|file| file.used);
    all
}

/// Drops what no start can use again, then the longest unused, until all files together have at most `limit` bytes.
/// A process that has one of them mapped keeps it.
pub fn prune(directory: &Path, limit: u64) {
    let usable = |contents: &Contents| {
        file_states(contents.files.iter().map(|file| file.path.as_path())).is_ok_and(|now| now == contents.files)
    };
    let (useful, useless): (Vec<Kept>, Vec<Kept>) = kept(directory)
        .into_iter()
        .partition(|kept| kept.contents.as_ref().is_some_and(usable));
    let mut excess = useful.iter().map(|kept| kept.bytes).sum::<u64>().saturating_sub(limit);
    let old = useful.into_iter().take_while(|kept| {
        let drop = excess > 0;
        excess = excess.saturating_sub(kept.bytes);
        drop
    });
    for file in useless.into_iter().chain(old) {
        let _ = fs::remove_file(file.path); // another process may have been first
    }
}

/// Drops unfinished files of processes that are no more.
pub fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let age = entry
            .metadata()
            .and_then(|about| about.modified())
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
    fn what_was_left_long_ago_is_swept_away() {
        let directory = std::env::temp_dir().join(format!("embergem-swept-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (old, young) = (directory.join("old.new"), directory.join("young.new"));
        let long_ago = SystemTime::now() - 2 * ABANDONED;
        File::create(&old).unwrap().set_modified(long_ago).unwrap();
        File::create(&young).unwrap();
        sweep(&directory);
        assert!(!old.exists());
        assert!(young.exists(), "another process may still write it");
        fs::remove_dir_all(directory).unwrap();
    }
}
