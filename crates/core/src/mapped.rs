//! Files mapped into memory, whose changes are noticed.
//!
//! A map shows what another program writes into the file. So whoever reads from a map checks the file afterwards, and
//! discards what it read from a file that changed: [`Watched`] for the maps that a model computes from,
//! [`Source::require_unchanged`] for those that are read while a model is loaded.

use crate::error::{Error, Result};
use crate::files::{Stamp, open_to_read};
use crate::sigbus::Protection;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A file that is mapped, and its stamp before any byte was read.
pub struct Source {
    path: PathBuf,
    file: File,
    stamp: Stamp,
    /// A page of a map was gone when it was read.
    cut_short: Arc<AtomicBool>,
}

impl Source {
    /// Opens a file and reads its stamp.
    ///
    /// # Errors
    /// The I/O error of opening the file or of reading its metadata.
    pub fn open(path: &Path) -> io::Result<Arc<Self>> {
        Self::of(open_to_read(path)?, path)
    }

    /// Reads the stamp of an open file.
    ///
    /// # Errors
    /// The I/O error of reading the metadata.
    pub fn of(file: File, path: &Path) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            path: path.to_owned(),
            stamp: Stamp::settled(&file)?,
            file,
            cut_short: Arc::default(),
        }))
    }

    /// Returns the open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the size of the file when it was opened.
    pub fn size(&self) -> u64 {
        self.stamp.size
    }

    /// Checks that the file has not changed since it was opened. If so, all bytes that were read from its maps before
    /// are those of that time.
    ///
    /// # Errors
    /// [`Error::Changed`] if the file has changed.
    pub fn require_unchanged(&self) -> Result<()> {
        let unchanged = !self.is_cut_short() && Stamp::of(&self.file).is_ok_and(|now| now == self.stamp);
        if unchanged {
            Ok(())
        } else {
            Err(Error::Changed(self.path.clone()))
        }
    }

    fn is_cut_short(&self) -> bool {
        self.cut_short.load(Ordering::SeqCst)
    }
}

/// A mapped range of a file, as bytes.
pub struct Mapped {
    _protection: Protection, // dropped before the map
    map: Mmap,
    source: Arc<Source>,
}

impl Mapped {
    /// Maps a whole file.
    ///
    /// # Errors
    /// The I/O error of mapping the file.
    pub fn whole(source: &Arc<Source>) -> io::Result<Arc<Self>> {
        Self::range(source, 0, source.size() as usize)
    }

    /// Maps `len` bytes of a file from `start` on, which is a multiple of the page size.
    ///
    /// # Errors
    /// The I/O error of mapping the file.
    pub fn range(source: &Arc<Source>, start: u64, len: usize) -> io::Result<Arc<Self>> {
        // SAFETY: the map is read-only. Another program may write into the file or cut it short: `Protection` keeps reads
        // possible then, every bit pattern of the bytes is a valid value, and readers check the file after they read.
        let map = unsafe { MmapOptions::new().offset(start).len(len).map(&source.file) }?;
        Ok(Arc::new(Self {
            _protection: Protection::of(&map, &source.cut_short),
            map,
            source: Arc::clone(source),
        }))
    }

    /// Returns the file.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Takes the pages that were read out of this process, so that they do not count as its memory. They stay in the
    /// system's file cache, and the next read of one maps it again.
    pub fn release_pages(&self) {
        #[cfg(unix)]
        {
            // SAFETY: the map is read-only and shared, so a page that is mapped again has the bytes of the file, as
            // every page of the map.
            let _ = unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) }; // without it the pages stay mapped
        }
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

/// Bytes of a map with their checksum at the time of the load.
pub struct Part {
    /// The map.
    pub map: Arc<Mapped>,
    /// The bytes in the map.
    pub range: Range<usize>,
    /// Their CRC-32.
    pub crc: u32,
}

/// The files that a loaded model still reads from.
///
/// A run calls [`Watched::begin`] before its first read and [`Watched::confirm`] after its last one.
#[derive(Default)]
pub struct Watched {
    files: Vec<WatchedFile>,
    /// Number of changes that left all parts as they were loaded.
    touches: AtomicU64,
    failed: Mutex<Option<String>>,
}

struct WatchedFile {
    source: Arc<Source>,
    /// The last stamp for which the parts were as loaded.
    stamp: Mutex<Stamp>,
    parts: Vec<Part>,
}

/// What is known of the bytes that a run has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// They are those that were loaded.
    Loaded,
    /// A file was touched meanwhile. It has the bytes that were loaded, but may have had others: run again.
    Touched,
}

impl Watched {
    /// Watches the files of `parts`.
    pub fn new(parts: impl IntoIterator<Item = Part>) -> Self {
        let mut watched = Self::default();
        for part in parts {
            let source = Arc::clone(part.map.source());
            match watched.files.iter_mut().find(|file| Arc::ptr_eq(&file.source, &source)) {
                Some(file) => file.parts.push(part),
                None => watched.files.push(WatchedFile {
                    stamp: Mutex::new(source.stamp),
                    source,
                    parts: vec![part],
                }),
            }
        }
        watched
    }

    /// Returns a number for [`Watched::confirm`].
    pub fn begin(&self) -> u64 {
        self.touches.load(Ordering::SeqCst)
    }

    /// Checks that the bytes that were read since `begin` are those that were loaded.
    ///
    /// The usual case costs a system call for each file. If a file was touched, its parts are read once and compared
    /// with their checksums, because attributes, links and names of a file change without its bytes.
    ///
    /// # Errors
    /// [`Error::FileChanged`] if the bytes of a file differ, also for every later call.
    pub fn confirm(&self, begin: u64) -> Result<Confirmed> {
        self.require_sound()?;
        for file in &self.files {
            let mut stamp = file.stamp.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Stamp::of(&file.source.file).ok();
            if now != Some(*stamp) || file.source.is_cut_short() {
                match file.compare() {
                    Some(settled) => *stamp = settled,
                    None => return Err(self.fail(&file.source, stamp.size)),
                }
                self.touches.fetch_add(1, Ordering::SeqCst);
            }
        }
        let untouched = self.touches.load(Ordering::SeqCst) == begin;
        Ok(if untouched {
            Confirmed::Loaded
        } else {
            Confirmed::Touched
        })
    }

    /// Returns why the model computes no vectors any more; none if it does.
    pub fn failure(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks that no file was found changed before.
    ///
    /// # Errors
    /// [`Error::FileChanged`].
    pub fn require_sound(&self) -> Result<()> {
        self.failure().map_or(Ok(()), |reason| Err(Error::FileChanged(reason)))
    }

    /// Records that a file of `size` bytes has changed.
    fn fail(&self, source: &Source, size: u64) -> Error {
        let name = source.path.file_name().unwrap_or_default().to_string_lossy();
        let what = match Stamp::of(&source.file) {
            Ok(now) if now.size < size => format!("was cut short from {size} to {} bytes", now.size),
            _ if source.is_cut_short() => "was cut short, or its disk failed".to_owned(),
            _ => "was overwritten".to_owned(),
        };
        let reason = format!(
            "The file {name} of the loaded model {what}, so the model gives no more vectors. Load the model again. To \
             replace a file of a loaded model, write a new file and rename it."
        );
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.clone());
        Error::FileChanged(reason)
    }
}

impl WatchedFile {
    /// Compares all parts with their checksums. Returns the stamp of the file, or none if they differ.
    fn compare(&self) -> Option<Stamp> {
        const TRIES: usize = 3; // a file that is being written again and again counts as changed
        for _ in 0..TRIES {
            let before = Stamp::settled(&self.source.file).ok()?;
            let equal = self
                .parts
                .iter()
                .all(|part| crc32fast::hash(&part.map[part.range.clone()]) == part.crc);
            if !equal || self.source.is_cut_short() {
                return None;
            }
            if Stamp::of(&self.source.file).ok()? == before {
                return Some(before);
            }
        }
        None
    }
}

#[cfg(all(test, windows))]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn nobody_can_write_to_a_mapped_file() {
        let path = std::env::temp_dir().join(format!("embergem-mapped-{}", std::process::id()));
        fs::write(&path, "weights").unwrap();
        let source = Source::open(&path).unwrap();
        let map = Mapped::whole(&source).unwrap();
        assert!(fs::write(&path, "others!").is_err());
        assert!(File::options().write(true).open(&path).is_err());
        assert_eq!(&map[..], b"weights");
        drop((map, source));
        fs::remove_file(&path).unwrap();
    }
}
