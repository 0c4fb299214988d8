//! The format of a file of packed weights: parts, each on a page; then JSON that lists them; then the length and the
//! checksum of that JSON and a mark.

use crate::files::{FileState, temporary_path};
use crate::hex::sha256_hex;
use crate::pool::Pool;
use crate::storage::Storage;
use crc32fast::Hasher;
use memmap2::{Mmap, MmapOptions};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

const MARK: &[u8; 20] = b"embergem-packed/1\n\0\0";
/// Length (8 bytes), checksum (4) and mark.
const TAIL: usize = 8 + 4 + MARK.len();
/// Parts begin at multiples of this, as a map must.
const PAGE: u64 = 4096;
/// Of files that are whole.
pub const EXTENSION: &str = "packed";
/// Bytes of one checksum; those of a part are put together.
const PIECE: usize = 1 << 20;
/// Pieces that a thread reads before other runs may go first: about a millisecond.
const PIECES_A_TURN: usize = 4;
/// What a file holds, and what it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Of the embergem that packed.
    pub build: String,
    /// The checkpoint's files.
    pub files: Vec<FileState>,
    /// Arithmetic, kernels and the like.
    pub variant: Vec<String>,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    start: u64,
    len: u64,
    crc: u32,
}

impl Part {
    fn range(&self) -> Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

impl Contents {
    /// Without parts yet.
    pub fn new(files: Vec<FileState>, build: &str, variant: &[&str]) -> Self {
        Self {
            build: build.into(),
            files,
            variant: variant.iter().map(|&text| text.into()).collect(),
            parts: Vec::new(),
        }
    }

    /// The place of this file: named by all but the parts.
    pub fn path(&self, directory: &Path) -> PathBuf {
        let name = serde_json::json!([self.build, self.files, self.variant]).to_string();
        directory.join(&sha256_hex(&name)[..32]).with_extension(EXTENSION)
    }

    /// Reads the end of a file; `None` if it is not one of ours or damaged there.
    pub fn read(file: &mut File) -> Option<Self> {
        let end = file.seek(SeekFrom::End(-(TAIL as i64))).ok()?;
        let mut tail = [0; TAIL];
        file.read_exact(&mut tail).ok()?;
        let (len, rest) = tail.split_first_chunk::<8>()?;
        let (crc, mark) = rest.split_first_chunk::<4>()?;
        let len = u64::from_le_bytes(*len);
        if mark != MARK || len > end {
            return None;
        }
        file.seek(SeekFrom::Start(end - len)).ok()?;
        let mut json = Vec::new();
        file.take(len).read_to_end(&mut json).ok()?;
        if crc32fast::hash(&json) != u32::from_le_bytes(*crc) {
            return None;
        }
        serde_json::from_slice(&json).ok()
    }
}

/// A file that was found sound.
pub struct Reader {
    map: Arc<Mmap>,
    parts: Vec<Part>,
}

impl Reader {
    /// Opens and checks a file that must hold what `wanted` says; `None` if it is not there, another, or damaged.
    pub fn open(path: &Path, wanted: &Contents) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        let mut found = Contents::read(&mut file)?;
        let parts = std::mem::take(&mut found.parts);
        if found != *wanted {
            return None;
        }
        // SAFETY: the map is read only; files of the cache are replaced by renaming and never written into.
        let map = unsafe { Mmap::map(&file) }.ok()?;
        let inside = |part: &Part| {
            part.start
                .checked_add(part.len)
                .is_some_and(|end| end <= map.len() as u64)
        };
        if !parts.iter().all(inside) {
            return None;
        }
        if !sound(&map, &parts) {
            return None;
        }
        let _ = file.set_modified(SystemTime::now()); // when it was used last; if that can't be noted it looks older
        Some(Self {
            map: Arc::new(map),
            parts,
        })
    }

    /// Part `number`.
    pub fn part(&self, number: usize) -> Option<Storage> {
        let part = self.parts.get(number)?;
        Storage::mapped(&self.map, part.range())
    }
}

/// Whether all parts have their checksums.
fn sound(map: &[u8], parts: &[Part]) -> bool {
    let pieces: Vec<(usize, &[u8])> = parts
        .iter()
        .enumerate()
        .flat_map(|(number, part)| map[part.range()].chunks(PIECE).map(move |piece| (number, piece)))
        .collect();
    let sums: Vec<OnceLock<Hasher>> = pieces.iter().map(|_| OnceLock::new()).collect();
    Pool::global().run_in_turns(pieces.len(), PIECES_A_TURN, &|number, _| {
        sums[number].get_or_init(|| {
            let mut sum = Hasher::new();
            sum.update(pieces[number].1);
            sum
        });
    });
    let mut found = vec![Hasher::new(); parts.len()];
    for ((part, _), sum) in pieces.iter().zip(sums) {
        found[*part].combine(&sum.into_inner().expect("every task has run"));
    }
    parts.iter().zip(found).all(|(part, sum)| sum.finalize() == part.crc)
}

/// A file that is being written; it vanishes unless it is finished.
pub struct Writer {
    file: File,
    scratch: PathBuf,
    path: PathBuf,
    contents: Contents,
    end: u64,
    limit: u64,
}

impl Writer {
    /// Begins the file that will be `path`, of at most `limit` bytes.
    pub fn create(path: &Path, contents: Contents, limit: u64) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let scratch = temporary_path(path);
        let file = File::options().read(true).write(true).create_new(true).open(&scratch)?;
        Ok(Self {
            file,
            scratch,
            path: path.to_owned(),
            contents,
            end: 0,
            limit,
        })
    }

    /// Writes a part and gives it back mapped, so that its memory is the file's. On failure (the disk or the limit is
    /// reached) the part comes back as it was, and the file is given up.
    pub fn keep(mut self, part: Storage) -> (Option<Self>, Storage) {
        match self.write(&part) {
            Ok(mapped) => (Some(self), mapped.unwrap_or(part)),
            Err(_) => (None, part),
        }
    }

    fn write(&mut self, part: &Storage) -> io::Result<Option<Storage>> {
        let (bytes, start) = (part.bytes(), self.end.next_multiple_of(PAGE));
        if start + bytes.len() as u64 > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.file.seek(SeekFrom::Start(start))?;
        self.file.write_all(bytes)?;
        self.end = start + bytes.len() as u64;
        self.contents.parts.push(Part {
            start,
            len: bytes.len() as u64,
            crc: crc32fast::hash(bytes),
        });
        if bytes.is_empty() {
            return Ok(None);
        }
        // SAFETY: this part of the file is written; nothing writes into it again.
        let map = Arc::new(unsafe { MmapOptions::new().offset(start).len(bytes.len()).map(&self.file) }?);
        Ok(Storage::mapped(&map, 0..bytes.len()))
    }

    /// Writes the end and moves the file into its place.
    pub fn finish(mut self) -> io::Result<()> {
        let json = serde_json::to_vec(&self.contents)?;
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(&json)?;
        self.file.write_all(&(json.len() as u64).to_le_bytes())?;
        self.file.write_all(&crc32fast::hash(&json).to_le_bytes())?;
        self.file.write_all(MARK)?;
        fs::rename(&self.scratch, &self.path)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.scratch); // after `finish` there is nothing of that name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aligned::Aligned;
    use crate::pool::require_turns;

    /// A directory that goes away with its owner.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("embergem-packed-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn contents() -> Contents {
        Contents::new(Vec::new(), "test", &[])
    }

    #[test]
    fn what_a_process_of_the_same_id_has_left_is_in_nobodys_way() {
        let directory = Temporary::new("left");
        let path = contents().path(&directory.0);
        let left = |number| path.with_extension(format!("{}-{number}.new", std::process::id()));
        (0..1000).for_each(|number| fs::write(left(number), "").unwrap());
        Writer::create(&path, contents(), 1 << 20).unwrap().finish().unwrap();
        assert!(Reader::open(&path, &contents()).is_some());
    }

    #[test]
    fn a_part_of_many_pieces_is_checked_to_its_last_byte() {
        let directory = Temporary::new("pieces");
        let path = contents().path(&directory.0);
        let mut floats = Aligned::zeros(3 * PIECE / 4 + 1);
        (floats[0], floats[PIECE / 2], floats[3 * PIECE / 4]) = (1.0, 2.0, 3.0);
        let writer = Writer::create(&path, contents(), 1 << 30).unwrap();
        let (writer, first) = writer.keep(floats.into());
        let (writer, _) = writer.unwrap().keep(Aligned::zeros(5).into());
        writer.unwrap().finish().unwrap();
        let reader = Reader::open(&path, &contents()).unwrap();
        assert_eq!(&reader.part(0).unwrap()[..], &first[..]);
        let whole = fs::read(&path).unwrap();
        for place in [0, PIECE + 5, 3 * PIECE + 3, 3 * PIECE + PAGE as usize] {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert!(Reader::open(&path, &contents()).is_none(), "byte {place}");
        }
        fs::write(&path, whole).unwrap();
        assert!(Reader::open(&path, &contents()).is_some());
    }

    #[test]
    fn checksums_are_made_in_turns() {
        let directory = Temporary::new("turns");
        let path = contents().path(&directory.0);
        let writer = Writer::create(&path, contents(), 1 << 20).unwrap();
        let (writer, _) = writer.keep(Aligned::zeros(5).into());
        writer.unwrap().finish().unwrap();
        require_turns(|| assert!(Reader::open(&path, &contents()).is_some()));
    }
}
