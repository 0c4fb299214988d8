//! The state of files, by which a change of their bytes is noticed, and atomic writes.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest step of the clock that file systems read: the kernel's clock tick is at most 10 ms.
const TICK: Duration = Duration::from_millis(20);
/// Longest step of a file system that stores whole seconds, such as FAT.
const COARSE_TICK: Duration = Duration::from_secs(2);

/// Size and times of a file. If any of them changed, the bytes may have changed.
///
/// The system sets the times before it writes new bytes. So bytes that were read before the stamp was read are those of
/// the stamp, if the stamp was settled when it was first read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Size in bytes.
    pub size: u64,
    /// Modification time in nanoseconds since 1970, which programs may set to any value.
    modified: u64,
    /// Time of the last change of bytes or attributes, which no program can set; 0 on systems without it.
    changed: u64,
}

impl Stamp {
    /// Reads the stamp of an open file.
    ///
    /// # Errors
    /// The I/O error of reading the metadata.
    pub fn of(file: &File) -> io::Result<Self> {
        Self::from_metadata(&file.metadata()?)
    }

    /// Reads the stamp of an open file. If the file changed just now, waits until a further change gives another stamp.
    ///
    /// # Errors
    /// The I/O error of reading the metadata.
    pub fn settled(file: &File) -> io::Result<Self> {
        settled(|| Self::of(file))
    }

    fn from_metadata(metadata: &Metadata) -> io::Result<Self> {
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            size: metadata.len(),
            modified: modified.as_nanos() as u64,
            changed: changed(metadata),
        })
    }

    /// Returns how long a change may still give the same stamp, at most; none if it gives another one from now on.
    fn unsettled(&self) -> Option<Duration> {
        let last = Duration::from_nanos(if self.changed > 0 { self.changed } else { self.modified });
        let tick = if last.subsec_nanos() == 0 { COARSE_TICK } else { TICK };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (now.abs_diff(last) <= tick).then_some(tick)
    }
}

/// Reads a stamp. If it has the time of now, waits for the next tick of the clock and reads it again.
fn settled(read: impl Fn() -> io::Result<Stamp>) -> io::Result<Stamp> {
    let stamp = read()?;
    match stamp.unsettled() {
        None => Ok(stamp),
        Some(tick) => {
            thread::sleep(tick);
            read()
        }
    }
}

#[cfg(unix)]
fn changed(metadata: &Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    (metadata.ctime() as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(metadata.ctime_nsec() as u64)
}

#[cfg(not(unix))]
fn changed(_: &Metadata) -> u64 {
    0
}

/// Opens a file to read it. On Windows no other program can open it for writing until it is closed.
///
/// # Errors
/// The I/O error of opening the file.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt;
        const FILE_SHARE_READ: u32 = 1;
        const FILE_SHARE_DELETE: u32 = 4;
        options.share_mode(FILE_SHARE_READ | FILE_SHARE_DELETE);
    }
    options.open(path)
}

/// Path and stamp of a file.
///
/// Cached results are named by a hash of this value as JSON, so the names of its fields are part of the cache's format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// Canonical path: all symbolic links are resolved.
    pub path: PathBuf,
    /// Size and times.
    #[serde(flatten)]
    pub stamp: Stamp,
}

/// The state of several files at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileStates {
    paths: Vec<PathBuf>,
    states: Vec<FileState>,
}

impl FileStates {
    /// Reads the state of each file. A file that changed just now is read again a moment later; see [`Stamp`].
    ///
    /// # Errors
    /// [`Error::Io`] with the first file whose metadata cannot be read.
    pub fn of<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<Self> {
        let paths: Vec<PathBuf> = files.into_iter().map(Path::to_owned).collect();
        let state = |path: &PathBuf| {
            let path = path.clone();
            state_of(&path).map_err(|source| Error::Io { path, source })
        };
        let states = paths.iter().map(state).collect::<Result<_>>()?;
        Ok(Self { paths, states })
    }

    /// Checks that the files have this state.
    ///
    /// # Errors
    /// [`Error::Changed`] with the first file that has another one.
    pub fn require_unchanged(&self) -> Result<()> {
        let mut files = self.paths.iter().zip(&self.states);
        match files.find(|(path, before)| state_of(path).ok().as_ref() != Some(before)) {
            None => Ok(()),
            Some((path, _)) => Err(Error::Changed(path.clone())),
        }
    }

    /// Returns the state of each file, in order.
    pub fn states(&self) -> &[FileState] {
        &self.states
    }
}

fn state_of(path: &Path) -> io::Result<FileState> {
    let path = fs::canonicalize(path)?;
    let stamp = settled(|| Stamp::from_metadata(&fs::metadata(&path)?))?;
    Ok(FileState { path, stamp })
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
