//! Files that another program changes while a model is loaded: no vector is computed from changed bytes.
#![cfg(unix)]

mod common;

use common::{TempFile, checkpoint, load, program, vectors};
use embergem_core::{Error, FileStates, Memo, Model, Options, PackedCache, Tensors};
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const IDS: [u32; 6] = [1, 2, 3, 10, 0, 5];
const OFFSETS: [u32; 3] = [0, 2, 6];

/// Offset of the tensor data: the first bytes are those of the embedding table.
fn data_start(file: &[u8]) -> usize {
    8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize
}

/// Writes into a file without changing its size, and sets its modification time to the one before.
fn overwrite(path: &Path, offset: usize, bytes: &[u8]) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(offset as u64)).unwrap();
    file.write_all(bytes).unwrap();
    file.set_times(FileTimes::new().set_modified(before)).unwrap();
}

fn truncate(path: &Path, size: u64) {
    OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(size)
        .unwrap();
}

fn run(model: &Model) -> Result<Vec<f32>, Error> {
    vectors(model, &IDS, &OFFSETS)
}

/// A loaded model, and its vectors before any change.
struct Loaded {
    file: TempFile,
    bytes: Vec<u8>,
    model: Model,
    sound: Vec<f32>,
}

impl Loaded {
    fn new(name: &str) -> Self {
        let bytes = checkpoint();
        let file = TempFile::new(name, &bytes);
        let model = load(&program(), &file.0, Options::default()).unwrap();
        let sound = run(&model).unwrap();
        Self {
            file,
            bytes,
            model,
            sound,
        }
    }

    fn require_failed(&self, words: &str) {
        for _ in 0..2 {
            match run(&self.model) {
                Err(Error::FileChanged(reason)) => assert!(reason.contains(words), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(self.model.failure().unwrap().contains(words));
    }
}

/// Changes a file in one way.
type Change<'a> = &'a dyn Fn(&Path);

#[test]
fn an_overwritten_file_fails_its_model_even_with_its_old_time_and_bytes() {
    let loaded = Loaded::new("overwritten");
    let start = data_start(&loaded.bytes);
    overwrite(&loaded.file.0, start, &1f32.to_le_bytes());
    loaded.require_failed("was overwritten");
    overwrite(&loaded.file.0, start, &loaded.bytes[start..start + 4]);
    loaded.require_failed("was overwritten");
    let again = load(&program(), &loaded.file.0, Options::default()).unwrap();
    assert_eq!(run(&again).unwrap(), loaded.sound);
}

#[test]
fn a_file_that_is_cut_short_fails_its_model_and_no_other() {
    let other = Loaded::new("other");
    for size in [0, 9] {
        let loaded = Loaded::new(&format!("cut-{size}"));
        truncate(&loaded.file.0, size);
        loaded.require_failed("was cut short");
        fs::write(&loaded.file.0, &loaded.bytes).unwrap();
        loaded.require_failed("was cut short");
    }
    truncate(&other.file.0, other.bytes.len() as u64 - 4);
    assert_eq!(
        run(&other.model).unwrap(),
        other.sound,
        "no run reads the last tensor from the file"
    );
}

#[test]
fn a_touched_or_replaced_file_changes_nothing() {
    let touch = |path: &Path| {
        File::open(path)
            .unwrap()
            .set_modified(std::time::SystemTime::now())
            .unwrap()
    };
    let same_bytes = |path: &Path| overwrite(path, 0, &fs::read(path).unwrap());
    let restrict = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o444)).unwrap();
    let link = |path: &Path| fs::hard_link(path, path.with_extension("link")).unwrap();
    let unlink = |path: &Path| fs::remove_file(path.with_extension("link")).unwrap();
    let replace = |path: &Path| {
        let new = path.with_extension("new");
        fs::write(&new, b"another model").unwrap();
        fs::rename(&new, path).unwrap();
    };
    let loaded = Loaded::new("touched");
    let changes: [(&str, Change); 6] = [
        ("touch", &touch),
        ("same bytes", &same_bytes),
        ("permissions", &restrict),
        ("link", &link),
        ("unlink", &unlink),
        ("replace", &replace),
    ];
    for (name, change) in changes {
        change(&loaded.file.0);
        assert_eq!(run(&loaded.model).unwrap(), loaded.sound, "{name}");
    }
    assert!(load(&program(), &loaded.file.0, Options::default()).is_err());
}

/// A directory that is removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("embergem-changed-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn a_changed_file_of_packed_weights_fails_the_model_and_is_packed_again() {
    let file = TempFile::new("packed", &checkpoint());
    let packed = Directory::new("packed");
    let options = Options {
        packed: Some(PackedCache {
            directory: &packed.0,
            limit: 1 << 20,
        }),
        ..Options::default()
    };
    let sound = run(&load(&program(), &file.0, options).unwrap()).unwrap();
    let cut: fn(&Path) = |path| truncate(path, 100);
    for (change, words) in [
        (cut, "was cut short"),
        (|path| overwrite(path, 8, &[0x55; 4]), "was overwritten"),
    ] {
        for _ in 0..2 {
            let model = load(&program(), &file.0, options).unwrap(); // the first one packs, the second one maps
            assert_eq!(run(&model).unwrap(), sound);
            let path = fs::read_dir(&packed.0).unwrap().next().unwrap().unwrap().path();
            if model.failure().is_none() {
                change(&path);
            }
            match run(&model) {
                Err(Error::FileChanged(reason)) => assert!(reason.contains(words), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn readers_refuse_a_file_that_changes_under_them() {
    let bytes = checkpoint();
    let file = TempFile::new("reader", &bytes);
    let tensors = || Tensors::open([("", file.0.as_path())]).unwrap();
    let (cut, overwritten) = (tensors(), tensors());
    assert_eq!(tensors().rows("table", 0, 1).unwrap().0.len(), 12);
    overwrite(&file.0, data_start(&bytes), &[0; 4]);
    assert!(matches!(overwritten.rows("table", 0, 1), Err(Error::Changed(_))));
    truncate(&file.0, 8);
    assert!(matches!(cut.rows("table", 0, 1), Err(Error::Changed(_))));
}

#[test]
fn results_about_files_end_with_their_bytes_even_if_the_time_is_set_back() {
    let directory = Directory::new("memo");
    let file = directory.0.join("weights");
    fs::write(&file, "abcd").unwrap();
    let memo = || Memo::new(&directory.0, "kind", [file.as_path()], &[]).unwrap();
    let (stale, states) = (memo(), FileStates::of([file.as_path()]).unwrap());
    memo().write("of abcd");
    assert_eq!(memo().read().as_deref(), Some("of abcd"));
    overwrite(&file, 0, b"efgh");
    assert_eq!(memo().read(), None);
    assert!(matches!(states.require_unchanged(), Err(Error::Changed(path)) if path == file));
    fs::remove_dir_all(directory.0.join("kind")).unwrap();
    stale.write("of efgh");
    assert_eq!(stale.read(), None, "it may be of other bytes than those of its name");
}
