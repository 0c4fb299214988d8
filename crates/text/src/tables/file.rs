//! The tables of a tokenizer.json in a file beside the packed weights, for the next start.
//!
//! A file is named by the build and the SHA-256 of the tokenizer.json. It has a magic number, the CRC-32 of everything
//! after that (together with build and tokenizer.json), and then its parts, each after its length: the tokenizer.json
//! without vocabulary and merges, the properties of the vocabulary, and the arrays. A file that is damaged, or of another
//! build, is not used, and the start that finds it writes it again.

use super::{Merges, Numbers, Slots, Tables, Vocabulary};
use crate::BUILD;
use crate::bpe::Properties;
use crate::pair_set::PairSet;
use crc32fast::Hasher;
use sha2::{Digest, Sha256};
use std::fs::{self, DirEntry, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

const MAGIC: &[u8; 16] = b"embergem-tables\n";

/// Bytes that are read and added to the checksum at once. They stay in the cache of a core.
const BLOCK: usize = 128 * 1024;

/// Most files in the directory. Gemma's has 19 MB.
const MOST_FILES: usize = 8;

const EXTENSION: &str = "tables";

/// Age at which a temporary file counts as left by a process that ended.
const ABANDONED: Duration = Duration::from_secs(3600);

/// The content of a file.
pub(crate) struct Stored {
    /// The tokenizer.json with an empty vocabulary and no merges.
    pub shell: String,
    pub properties: Properties,
    pub tables: Tables,
}

/// Reads the tables of the tokenizer.json with this digest; `None` if there is no sound file.
pub(crate) fn read(directory: &Path, digest: &[u8; 32]) -> Option<Stored> {
    let mut file = File::open(path(directory, digest)).ok()?;
    let mut start = [0; MAGIC.len() + 4];
    file.read_exact(&mut start).ok()?;
    let wanted = start.strip_prefix(MAGIC)?;
    let left = file.metadata().ok()?.len();
    let mut parts = Parts {
        file,
        left: usize::try_from(left).ok()?,
        sum: checksum(digest),
    };
    let shell = String::from_utf8(parts.bytes()?).ok()?;
    let properties = parts.bytes()?;
    let vocabulary = Vocabulary {
        text: parts.bytes()?,
        ends: parts.numbers()?,
        ids: parts.numbers()?,
        slots: Slots(parts.numbers()?),
    };
    let merges = Merges {
        entries: parts.numbers()?,
        slots: Slots(parts.numbers()?),
    };
    if parts.sum.finalize().to_le_bytes() != *wanted {
        return None;
    }
    let (numbers, _) = properties.as_chunks::<8>();
    let numbers: Vec<u64> = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    let [max_chars, has_all_bytes, merges_bytes, shift, bits @ ..] = &numbers[..] else {
        return None;
    };
    let properties = Properties {
        max_chars: usize::try_from(*max_chars).ok()?,
        has_all_bytes: *has_all_bytes == 1,
        merges_bytes: *merges_bytes == 1,
        pairs: PairSet::from_bits(u32::try_from(*shift).ok()?, bits.to_vec())?,
    };
    Some(Stored {
        shell,
        properties,
        tables: Tables { vocabulary, merges },
    })
}

/// Returns the content of a file for the tokenizer.json with this digest.
pub(crate) fn encode(digest: &[u8; 32], shell: &str, properties: &Properties, tables: &Tables) -> Vec<u8> {
    let (shift, bits) = properties.pairs.bits();
    let numbers = [
        properties.max_chars as u64,
        u64::from(properties.has_all_bytes),
        u64::from(properties.merges_bytes),
        u64::from(shift),
    ];
    let numbers: Vec<u8> = numbers
        .iter()
        .chain(bits)
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let (vocabulary, merges) = (&tables.vocabulary, &tables.merges);
    let parts = [
        shell.as_bytes(),
        &numbers,
        &vocabulary.text,
        vocabulary.ends.0.as_flattened(),
        vocabulary.ids.0.as_flattened(),
        vocabulary.slots.0.0.as_flattened(),
        merges.entries.0.as_flattened(),
        merges.slots.0.0.as_flattened(),
    ];
    let mut content = [&MAGIC[..], &[0; 4]].concat();
    for part in parts {
        content.extend((part.len() as u64).to_le_bytes());
        content.extend(part);
    }
    let (start, parts) = content.split_at_mut(MAGIC.len() + 4);
    let mut sum = checksum(digest);
    sum.update(parts);
    start[MAGIC.len()..].copy_from_slice(&sum.finalize().to_le_bytes());
    content
}

/// Writes the content of the file for the tokenizer.json with this digest, and removes old files of the directory.
///
/// # Errors
/// The I/O error of writing. There is then no new file.
pub(crate) fn write(directory: &Path, digest: &[u8; 32], content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let path = path(directory, digest);
    let temporary = temporary(&path);
    let written = File::create_new(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        drop(file); // Windows does not rename an open file
        fs::rename(&temporary, &path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    prune(directory);
    written
}

/// Returns the path of the file for a tokenizer.json.
fn path(directory: &Path, digest: &[u8; 32]) -> PathBuf {
    let name = Sha256::new_with_prefix(BUILD).chain_update(digest).finalize();
    let name: String = name[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    directory.join(name).with_extension(EXTENSION)
}

/// Returns a path that no other process and no other thread uses.
fn temporary(path: &Path) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let time = time.unwrap_or_default().as_nanos();
    path.with_extension(format!("{}-{number}-{time}.new", std::process::id()))
}

/// Returns the beginning of a checksum, which differs for every build and every tokenizer.json.
fn checksum(digest: &[u8; 32]) -> Hasher {
    let mut sum = Hasher::new();
    sum.update(BUILD.as_bytes());
    sum.update(digest);
    sum
}

/// Removes all but the newest files, and temporary files of processes that ended.
fn prune(directory: &Path) {
    let written = |entry: DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()));
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<(SystemTime, PathBuf)> = entries.filter_map(written).collect();
    files.sort();
    let has = |path: &Path, extension: &str| path.extension() == Some(extension.as_ref());
    let tables = files.iter().rev().filter(|(_, path)| has(path, EXTENSION));
    let abandoned = files.iter().filter(|(time, path)| {
        let age = time.elapsed().unwrap_or_default();
        has(path, "new") && age > ABANDONED
    });
    for (_, path) in tables.skip(MOST_FILES).chain(abandoned) {
        let _ = fs::remove_file(path); // another process may have removed it
    }
}

/// The parts of a file that are not read yet.
struct Parts {
    file: File,
    /// Most bytes that they can have.
    left: usize,
    /// Checksum of what was read.
    sum: Hasher,
}

impl Parts {
    fn bytes(&mut self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; self.length()?];
        self.fill(&mut bytes)?;
        Some(bytes)
    }

    fn numbers(&mut self) -> Option<Numbers> {
        let length = self.length()?;
        let mut numbers = vec![[0; 4]; length / 4];
        self.fill(numbers.as_flattened_mut())?;
        (length % 4 == 0).then_some(Numbers(numbers))
    }

    /// Reads the length of the next part.
    fn length(&mut self) -> Option<usize> {
        let mut length = [0; 8];
        self.fill(&mut length)?;
        let length = usize::try_from(u64::from_le_bytes(length)).ok()?;
        (length <= self.left).then_some(length)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Option<()> {
        self.left = self.left.checked_sub(bytes.len())?;
        for block in bytes.chunks_mut(BLOCK) {
            self.file.read_exact(block).ok()?;
            self.sum.update(block);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Overlong, Pipeline};
    use serde_json::json;

    /// A directory that is removed when dropped.
    struct TemporaryDirectory(PathBuf);

    impl TemporaryDirectory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("embergem-tables-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn cache(&self) -> PathBuf {
            self.0.join("cache")
        }

        /// Writes a tokenizer.json in which the token `ab` has the id `id`.
        fn tokenizer(&self, id: u32) -> PathBuf {
            let content = json!({
                "model": {"type": "BPE", "merges": [["a", "b"]], "unk_token": "?", "vocab": {"a": 0, "b": 1, "ab": id, "?": 3}},
                "added_tokens": [{"id": 9, "content": "<x>", "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true}],
                "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                    "special_tokens": {"<x>": {"id": "<x>", "ids": [4], "tokens": ["<x>"]}}},
            });
            let path = self.0.join("tokenizer.json");
            fs::write(&path, content.to_string()).unwrap();
            path
        }

        fn files(&self) -> Vec<PathBuf> {
            let entries = fs::read_dir(self.cache()).into_iter().flatten();
            entries.map(|entry| entry.unwrap().path()).collect()
        }
    }

    impl Drop for TemporaryDirectory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn load(tokenizer: &Path, cache: Option<&Path>) -> Pipeline {
        let options = Options {
            limit: 16,
            vocab_size: 100,
            prompts: None,
            builtin_prompts: None,
            bare: false,
            keep_unknown: false,
            cache,
        };
        Pipeline::load(tokenizer, options).unwrap()
    }

    fn ids(pipeline: &Pipeline) -> Vec<u32> {
        let row = pipeline.prepare_one(0, "ab<x>bz", None, None, Overlong::Refuse);
        row.unwrap().ids
    }

    #[test]
    fn a_stored_tokenizer_has_the_same_ids_and_does_not_need_the_library() {
        let directory = TemporaryDirectory::new("stored");
        let (path, cache) = (directory.tokenizer(2), directory.cache());
        for _ in 0..2 {
            let pipeline = load(&path, Some(&cache));
            assert_eq!(ids(&pipeline), [4, 2, 4, 1, 3]);
            assert!(!pipeline.has_library());
            assert_eq!(pipeline.detokenize(&[0, 4], false).unwrap(), "a <x>");
            assert!(pipeline.has_library());
            assert_eq!(directory.files().len(), 1);
        }
    }

    #[test]
    fn without_a_cache_nothing_is_stored() {
        let directory = TemporaryDirectory::new("none");
        assert_eq!(ids(&load(&directory.tokenizer(2), None)), [4, 2, 4, 1, 3]);
        assert!(directory.files().is_empty());
    }

    #[test]
    fn a_changed_tokenizer_is_not_read_from_the_file_of_another_one() {
        let directory = TemporaryDirectory::new("changed");
        let cache = directory.cache();
        let before = load(&directory.tokenizer(2), Some(&cache));
        let after = load(&directory.tokenizer(7), Some(&cache));
        assert_eq!((ids(&before), ids(&after)), (vec![4, 2, 4, 1, 3], vec![4, 7, 4, 1, 3]));
        assert_eq!(directory.files().len(), 2);
        // The library would now read another vocabulary than the tables have.
        let error = before.align(0, "ab", None, None).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json") && error.contains("changed"), "{error}");
        after.align(0, "ab", None, None).unwrap();
    }

    #[test]
    fn a_damaged_file_is_written_again() {
        let directory = TemporaryDirectory::new("damaged");
        let (tokenizer, cache) = (directory.tokenizer(2), directory.cache());
        load(&tokenizer, Some(&cache));
        let [path] = &directory.files()[..] else {
            panic!("{:?}", directory.files())
        };
        let sound = fs::read(path).unwrap();
        let flipped = (0..sound.len()).map(|place| {
            let mut content = sound.clone();
            content[place] ^= 1 << (place % 8);
            content
        });
        let cut = [0, 10, 24, sound.len() / 2, sound.len() - 1].map(|length| sound[..length].to_vec());
        let digest = Sha256::digest(fs::read(&tokenizer).unwrap()).into();
        for content in flipped.chain(cut) {
            fs::write(path, &content).unwrap();
            assert!(read(&cache, &digest).is_none());
        }
        assert_eq!(ids(&load(&tokenizer, Some(&cache))), [4, 2, 4, 1, 3]);
        assert_eq!(fs::read(path).unwrap(), sound);
        assert!(read(&cache, &digest).is_some());
        // The file of one tokenizer.json under the name of another one is not sound either.
        let other = Sha256::digest(b"another").into();
        fs::rename(path, super::path(&cache, &other)).unwrap();
        assert!(read(&cache, &other).is_none());
    }

    #[test]
    fn old_files_are_removed() {
        let directory = TemporaryDirectory::new("old");
        let cache = directory.cache();
        fs::create_dir_all(&cache).unwrap();
        let long_ago = SystemTime::now() - 2 * ABANDONED;
        for (name, age) in [("a.new", 0), ("b.new", 5), ("c.tables", 9), ("d.other", 9)] {
            let file = File::create(cache.join(name)).unwrap();
            file.set_modified(long_ago + ABANDONED * u32::from(age == 0) * 2)
                .unwrap();
        }
        for number in 0..MOST_FILES as u64 {
            let digest = [number as u8; 32];
            write(&cache, &digest, b"content").unwrap();
        }
        let left: Vec<bool> = ["a.new", "b.new", "c.tables", "d.other"]
            .map(|name| cache.join(name).exists())
            .into();
        assert_eq!(left, [true, false, false, true]);
        assert_eq!(directory.files().len(), MOST_FILES + 2);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_no_error_of_the_tokenizer() {
        let directory = TemporaryDirectory::new("blocked");
        fs::write(directory.cache(), "a file").unwrap();
        assert_eq!(
            ids(&load(&directory.tokenizer(2), Some(&directory.cache()))),
            [4, 2, 4, 1, 3]
        );
    }
}
