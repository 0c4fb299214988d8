//! Packed weights, kept in a file between starts: a later start maps the file and packs nothing.
//!
//! A file holds the matrices of a program one behind the other, each on a page, and at its end what they are: the
//! state of the checkpoint's files, the program, the arithmetic, the kernels and the build. It is written beside its
//! place and moved into it. Each has a checksum, which each start compares; a file that is damaged in any way is
//! made anew. Files whose checkpoint has changed or gone are dropped, then the longest unused, so that all together
//! stay below a limit.

pub mod directory;
mod file;
pub mod weight;

use self::directory::{prune, sweep};
use self::file::{Contents, Reader, Writer};
use crate::error::{Error, Result};
use crate::files::{FileState, file_states};
use crate::kernels::panels::{Format, Packed, Shape};
use std::path::{Path, PathBuf};

/// Name of this build: what another build has packed may be laid out otherwise.
pub const BUILD: &str = env!("EMBERGEM_BUILD");

/// Where packed weights are kept, and how many bytes at most.
#[derive(Clone, Copy, Debug)]
pub struct PackedCache<'a> {
    /// The directory; made when needed.
    pub directory: &'a Path,
    /// Most bytes of all its files.
    pub limit: u64,
}

/// Reads a size such as `2GB` or `500 M`: a number of bytes, thousands of them, and so on; `None` if it is none.
pub fn packed_limit(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_uppercase();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = (text[..digits].parse::<f64>().ok()?, text[digits..].trim_start());
    let power = ["", "K", "M", "G", "T"]
        .iter()
        .position(|prefix| unit == *prefix || unit.strip_suffix('B') == Some(prefix))?;
    Some((number * 1000f64.powi(power as i32)) as u64)
}

/// The packed matrices of one load, in the order of the program: from a file, or into one.
pub struct Packs {
    source: Source,
    /// What the checkpoint's files were like before they were read.
    files: Vec<FileState>,
}

enum Source {
    /// Nothing is kept.
    Memory,
    /// Everything is there. The number counts the matrices taken.
    Found(Reader, usize),
    /// Packed now and written; `None` once writing has failed.
    New(Option<Writer>, PathBuf, u64),
}

impl Packs {
    /// Looks in the cache for what was packed from these files with all else that is in `variant`.
    pub fn open<'a>(
        cache: Option<PackedCache<'_>>,
        files: impl IntoIterator<Item = &'a Path>,
        variant: &[&str],
    ) -> Self {
        let known = cache.and_then(|cache| Some((cache, file_states(files).ok()?)));
        let (source, files) = match known {
            None => (Source::Memory, Vec::new()),
            Some((cache, files)) => {
                let contents = Contents::new(files.clone(), BUILD, variant);
                let path = contents.path(cache.directory);
                let source = match Reader::open(&path, &contents) {
                    Some(reader) => Source::Found(reader, 0),
                    None => {
                        sweep(cache.directory);
                        let writer = Writer::create(&path, contents, cache.limit).ok();
                        Source::New(writer, cache.directory.to_owned(), cache.limit)
                    }
                };
                (source, files)
            }
        };
        Self { source, files }
    }

    /// Whether everything was found.
    pub fn found(&self) -> bool {
        matches!(self.source, Source::Found(..))
    }

    /// The next matrix: mapped if it was found, else packed by `pack` and kept for the next time.
    pub fn matrix<F: Format>(
        &mut self,
        shape: Shape,
        lanes: usize,
        pack: impl FnOnce() -> Result<Packed<F>>,
    ) -> Result<Packed<F>> {
        match &mut self.source {
            Source::Found(reader, taken) => {
                let found = reader
                    .part(*taken)
                    .filter(|data| data.len() == Packed::<F>::len_of(shape, lanes));
                *taken += 1;
                found.map_or_else(pack, |data| Ok(Packed::from_data(shape, lanes, data)))
            }
            Source::New(writer, ..) => {
                let data = pack()?.into_data();
                let data = match writer.take() {
                    None => data,
                    Some(open) => {
                        let (kept, data) = open.keep(data);
                        *writer = kept;
                        data
                    }
                };
                Ok(Packed::from_data(shape, lanes, data))
            }
            Source::Memory => pack(),
        }
    }

    /// Puts a new file in its place, once all is packed, and drops old ones. Where that is not possible the weights
    /// are merely packed again next time.
    ///
    /// One of `files` that was exchanged while it was read is an error: the weights could be of two models.
    pub fn finish<'a>(self, files: impl IntoIterator<Item = &'a Path>) -> Result<()> {
        for (before, file) in self.files.iter().zip(files) {
            if !file_states([file]).is_ok_and(|now| now == [before.clone()]) {
                return Err(Error::Changed(file.to_owned()));
            }
        }
        if let Source::New(Some(writer), directory, limit) = self.source
            && writer.finish().is_ok()
        {
            prune(&directory, limit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_exchanged_meanwhile_is_not_kept() {
        let directory = std::env::temp_dir().join(format!("embergem-exchanged-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("model.safetensors");
        let (kept, limit) = (directory.join("packed"), 1 << 20);
        let cache = PackedCache {
            directory: &kept,
            limit,
        };
        let open = || Packs::open(Some(cache), [file.as_path()], &[]);
        fs::write(&file, "old").unwrap();
        let packs = open();
        fs::write(&file, "newer").unwrap();
        let refused = packs.finish([file.as_path()]);
        assert!(
            matches!(&refused, Err(Error::Changed(path)) if *path == file),
            "{refused:?}"
        );
        assert_eq!(fs::read_dir(&kept).unwrap().count(), 0);

        open().finish([file.as_path()]).unwrap();
        let packs = open();
        assert!(packs.found());
        fs::remove_file(&file).unwrap();
        assert!(packs.finish([file.as_path()]).is_err());
        fs::remove_dir_all(directory).unwrap();
    }
}
