//! The format of a file of packed weights.
//!
//! A file has the packed matrices ("parts"), each aligned to a page; then JSON that describes them; then the length and
//! the checksum of that JSON and a magic number.

use crate::files::{FileState, open_to_read, temporary_path};
use crate::hex::sha256_hex;
use crate::mapped::{self, Mapped, Source};
use crate::pool::Pool;
use crate::storage::Storage;
use crc32fast::Hasher;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

/// The last bytes of every file.
const MAGIC: &[u8; 20] = b"embergem-packed/1\n\0\0";
/// Bytes at the end: length of the JSON (8), its CRC-32 (4) and the magic number.
const TRAILER: usize = 8 + 4 + MAGIC.len();
/// Alignment of parts: a map must begin at a page.
const PAGE: u64 = 4096;
/// Extension of complete files.
pub const EXTENSION: &str = "packed";
/// Bytes of one checksum task. The checksum of a part is combined from those of its chunks.
const CHUNK: usize = 1 << 20;
/// Age of the recorded last use at which a start records it again. Processes that have mapped the file compare its
/// checksums once after each record, so not every start makes one.
const USE_INTERVAL: Duration = Duration::from_secs(3600);
/// Chunks that a thread reads before other runs may go first: about a millisecond.
const CHUNKS_PER_TURN: usize = 4;

/// Description of a file: its parts, and what they were made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Build of embergem that packed the weights.
    pub build: String,
    /// State of the checkpoint's files.
    pub files: Vec<FileState>,
    /// Precision, kernels and program.
    pub variant: Vec<String>,
    parts: Vec<Part>,
}

/// Position and checksum of one packed matrix.
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
    /// Describes a file without parts.
    pub fn new(files: Vec<FileState>, build: &str, variant: &[&str]) -> Self {
        Self {
            build: build.into(),
            files,
            variant: variant.iter().map(|&text| text.into()).collect(),
            parts: Vec::new(),
        }
    }

    /// Returns the path of this file. Its name is a hash of everything but the parts.
    pub fn path(&self, directory: &Path) -> PathBuf {
        let name = serde_json::json!([self.build, self.files, self.variant]).to_string();
        directory.join(&sha256_hex(&name)[..32]).with_extension(EXTENSION)
    }

    /// Reads the description at the end of a file; `None` if the file has another format or a damaged description.
    pub fn read(file: &mut File) -> Option<Self> {
        let end = file.seek(SeekFrom::End(-(TRAILER as i64))).ok()?;
        let mut trailer = [0; TRAILER];
        file.read_exact(&mut trailer).ok()?;
        let (len, rest) = trailer.split_first_chunk::<8>()?;
        let (crc, magic) = rest.split_first_chunk::<4>()?;
        let len = u64::from_le_bytes(*len);
        if magic != MAGIC || len > end {
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

/// A matrix of a file, and the part of a map that it is in; none for a matrix without values.
pub struct StoredMatrix {
    /// The values.
    pub data: Storage,
    /// Where they are, with their checksum.
    pub part: Option<mapped::Part>,
}

/// A mapped file whose checksums were compared.
pub struct Reader {
    map: Arc<Mapped>,
    parts: Vec<Part>,
}

impl Reader {
    /// Maps the file and compares all checksums; `None` if it is absent, damaged, or does not have the description
    /// `wanted`.
    pub fn open(path: &Path, wanted: &Contents) -> Option<Self> {
        let mut file = open_to_read(path).ok()?;
        let mut found = Contents::read(&mut file)?;
        let parts = std::mem::take(&mut found.parts);
        if found != *wanted {
            return None;
        }
        record_use(&file);
        let source = Source::of(file, path).ok()?;
        let map = Mapped::whole(&source).ok()?;
        let inside = |part: &Part| {
            part.start
                .checked_add(part.len)
                .is_some_and(|end| end <= map.len() as u64)
        };
        if !parts.iter().all(inside) {
            return None;
        }
        let sound = checksums_match(&map, &parts) && source.require_unchanged().is_ok();
        sound.then_some(Self { map, parts })
    }

    /// Returns matrix `number`; `None` if there are fewer matrices.
    pub fn matrix(&self, number: usize) -> Option<StoredMatrix> {
        let part = self.parts.get(number)?;
        let (map, range, crc) = (Arc::clone(&self.map), part.range(), part.crc);
        let data = Storage::mapped(&map, range.clone())?;
        let part = (!range.is_empty()).then_some(mapped::Part { map, range, crc });
        Some(StoredMatrix { data, part })
    }
}

/// Records the last use of a file as its modification time, unless there is a recent record. If the time cannot be set,
/// the file counts as older than it is.
fn record_use(file: &File) {
    let recorded = file.metadata().and_then(|metadata| metadata.modified());
    let age = recorded.ok().and_then(|time| time.elapsed().ok());
    if age.is_none_or(|age| age > USE_INTERVAL) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// Returns whether the checksums of all parts match. The work is done in turns on the compute pool.
fn checksums_match(map: &[u8], parts: &[Part]) -> bool {
    let chunks: Vec<(usize, &[u8])> = parts
        .iter()
        .enumerate()
        .flat_map(|(number, part)| map[part.range()].chunks(CHUNK).map(move |chunk| (number, chunk)))
        .collect();
    let sums: Vec<OnceLock<Hasher>> = chunks.iter().map(|_| OnceLock::new()).collect();
    Pool::global().run_in_turns(chunks.len(), CHUNKS_PER_TURN, &|number, _| {
        sums[number].get_or_init(|| {
            let mut sum = Hasher::new();
            sum.update(chunks[number].1);
            sum
        });
    });
    let mut combined = vec![Hasher::new(); parts.len()];
    for ((part, _), sum) in chunks.iter().zip(sums) {
        combined[*part].combine(&sum.into_inner().expect("run_in_turns runs every task"));
    }
    parts.iter().zip(combined).all(|(part, sum)| sum.finalize() == part.crc)
}

/// A file that is being written under a temporary name. It is removed when dropped before [`Writer::finish`].
pub struct Writer {
    source: Arc<Source>,
    temporary: PathBuf,
    path: PathBuf,
    contents: Contents,
    end: u64,
    limit: u64,
}

impl Writer {
    /// Begins the file `path` of at most `limit` bytes.
    ///
    /// # Errors
    /// The I/O error of creating the directory or the temporary file.
    pub fn create(path: &Path, contents: Contents, limit: u64) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let temporary = temporary_path(path);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&temporary)?;
        Ok(Self {
            source: Source::of(file, path)?,
            temporary,
            path: path.to_owned(),
            contents,
            end: 0,
            limit,
        })
    }

    /// Appends a matrix and returns it mapped from the file, so that its memory is part of the page cache. On Windows it
    /// stays in memory: there a mapped file could not be renamed, and no other process could open it.
    ///
    /// On failure (the disk is full, or the limit is reached) the matrix is returned unchanged, and the file is
    /// abandoned: the first value is `None`.
    pub fn append(mut self, data: Storage) -> (Option<Self>, StoredMatrix) {
        match self.write(&data) {
            Ok(Some(mapped)) => (Some(self), mapped),
            written => (written.is_ok().then_some(self), StoredMatrix { data, part: None }),
        }
    }

    fn write(&mut self, part: &Storage) -> io::Result<Option<StoredMatrix>> {
        let (bytes, start) = (part.bytes(), self.end.next_multiple_of(PAGE));
        if start + bytes.len() as u64 > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut file = self.source.file();
        file.seek(SeekFrom::Start(start))?;
        file.write_all(bytes)?;
        self.end = start + bytes.len() as u64;
        let crc = crc32fast::hash(bytes);
        self.contents.parts.push(Part {
            start,
            len: bytes.len() as u64,
            crc,
        });
        if bytes.is_empty() || cfg!(windows) {
            return Ok(None);
        }
        let map = Mapped::range(&self.source, start, bytes.len())?;
        let range = 0..bytes.len();
        Ok(Storage::mapped(&map, range.clone()).map(|data| StoredMatrix {
            data,
            part: Some(mapped::Part { map, range, crc }),
        }))
    }

    /// Writes the description and renames the file to its final path.
    ///
    /// # Errors
    /// The I/O error of writing or renaming.
    pub fn finish(self) -> io::Result<()> {
        let json = serde_json::to_vec(&self.contents)?;
        let mut file = self.source.file();
        file.seek(SeekFrom::Start(self.end))?;
        file.write_all(&json)?;
        file.write_all(&(json.len() as u64).to_le_bytes())?;
        file.write_all(&crc32fast::hash(&json).to_le_bytes())?;
        file.write_all(MAGIC)?;
        fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary); // after `finish` there is no file of this name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aligned::Aligned;
    use crate::pool::require_turns;

    /// A directory that is removed when dropped.
    struct TemporaryDirectory(PathBuf);

    impl TemporaryDirectory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("embergem-packed-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for TemporaryDirectory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn contents() -> Contents {
        Contents::new(Vec::new(), "test", &[])
    }

    #[test]
    fn temporary_files_of_an_earlier_process_with_the_same_id_do_no_harm() {
        let directory = TemporaryDirectory::new("abandoned");
        let path = contents().path(&directory.0);
        let abandoned = |number| path.with_extension(format!("{}-{number}.new", std::process::id()));
        (0..1000).for_each(|number| fs::write(abandoned(number), "").unwrap());
        Writer::create(&path, contents(), 1 << 20).unwrap().finish().unwrap();
        assert!(Reader::open(&path, &contents()).is_some());
    }

    #[test]
    fn a_part_of_many_chunks_is_checked_to_its_last_byte() {
        let directory = TemporaryDirectory::new("chunks");
        let path = contents().path(&directory.0);
        let mut floats = Aligned::zeros(3 * CHUNK / 4 + 1).unwrap();
        (floats[0], floats[CHUNK / 2], floats[3 * CHUNK / 4]) = (1.0, 2.0, 3.0);
        let writer = Writer::create(&path, contents(), 1 << 30).unwrap();
        let (writer, first) = writer.append(floats.into());
        let (writer, _) = writer.unwrap().append(Aligned::zeros(5).unwrap().into());
        writer.unwrap().finish().unwrap();
        let reader = Reader::open(&path, &contents()).unwrap();
        assert_eq!(&reader.matrix(0).unwrap().data[..], &first.data[..]);
        drop((reader, first)); // Windows refuses to write to a mapped file
        let whole = fs::read(&path).unwrap();
        for offset in [0, CHUNK + 5, 3 * CHUNK + 3, 3 * CHUNK + PAGE as usize] {
            let mut damaged = whole.clone();
            damaged[offset] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert!(Reader::open(&path, &contents()).is_none(), "byte {offset}");
        }
        fs::write(&path, whole).unwrap();
        assert!(Reader::open(&path, &contents()).is_some());
    }

    #[test]
    fn checksums_are_computed_in_turns() {
        let directory = TemporaryDirectory::new("turns");
        let path = contents().path(&directory.0);
        let writer = Writer::create(&path, contents(), 1 << 20).unwrap();
        let (writer, _) = writer.append(Aligned::zeros(5).unwrap().into());
        writer.unwrap().finish().unwrap();
        require_turns(|| assert!(Reader::open(&path, &contents()).is_some()));
    }
}
