//! The name of a space of vectors: equal where the same tokens give the same vectors, on every machine and for every
//! layout of the files.
//!
//! It is a sha256 over one line for each tensor that the program reads (in name order: the sha256 of its name without
//! prefixes, its shape, stored element type, bytes and the scales beside them), over the tokenizer, and over the
//! program's key, which stands for the config fields that enter the arithmetic and for the head. What nothing reads (the
//! vision tower of a multimodal checkpoint) does not count, nor do prompts, limits and the arithmetic chosen at load.

use crate::error::Error;
use crate::format::checkpoint::Checkpoint;
use crate::format::tensor::Tensor;
use crate::hex::hex;
use crate::memo::Memo;
use crate::program::Program;
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// The first line of what is hashed; another way of hashing must have another.
const FORMAT: &str = "embergem-space/1";

/// A sha256.
pub type Sha = [u8; 32];

/// Names the space of a model: its program (JSON), its weight files with their name prefixes, and its tokenizer, whose
/// own digest `digest` computes.
///
/// What was found is noted in the directory `notes` by path, size and time of change of all files, and then read from
/// there: the weights are hashed once.
pub fn fingerprint<E: From<Error>>(
    program: &str,
    files: &[(&str, &Path)],
    tokenizer: &Path,
    digest: impl FnOnce() -> Result<Sha, E>,
    notes: Option<&Path>,
) -> Result<String, E> {
    let paths = files.iter().map(|(_, path)| *path).chain([tokenizer]);
    let note = notes.and_then(|directory| Memo::new(directory, "fingerprint", paths, &[FORMAT, program]));
    if let Some(known) = note.as_ref().and_then(Memo::read).filter(|known| is_sha(known)) {
        return Ok(known);
    }
    let program = Program::parse(program)?;
    let checkpoint = Checkpoint::open(files.iter().copied())?.with_prefixes(&program.prefixes);
    let tensors = hash_tensors(&program, &checkpoint)?;
    let mut all = Sha256::new();
    all.update(format!("{FORMAT}\n"));
    for sha in tensors {
        all.update(format!("tensor {}\n", hex(&sha)));
    }
    all.update(format!("tokenizer {}\nmodel {}\n", hex(&digest()?), program.key));
    let found = hex(&all.finalize());
    if let Some(note) = note {
        note.write(&found);
    }
    Ok(found)
}

/// A sha256 for each tensor that the program reads, in name order. The largest is begun first: in most models the
/// embedding table is more than half of the bytes. Threads of their own do it: on the compute pool no model would compute
/// for as long as the largest takes.
fn hash_tensors(program: &Program, checkpoint: &Checkpoint) -> Result<Vec<Sha>, Error> {
    let sources = program.weights.iter().flat_map(|weight| &weight.sources);
    let shapes: BTreeMap<&str, &[usize]> = sources.map(|s| (s.tensor.as_str(), s.shape.as_slice())).collect();
    let tensors = shapes
        .into_iter()
        .map(|(name, shape)| Ok((name, checkpoint.tensor(name, shape)?)))
        .collect::<Result<Vec<_>, Error>>()?;
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|number| Reverse(tensors[*number].1.stored_bytes()[0].len()));
    let shas = Mutex::new(vec![Sha::default(); tensors.len()]);
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(&number) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (name, tensor) = tensors[number];
            let sha = hash_tensor(name, tensor);
            shas.lock().unwrap_or_else(PoisonError::into_inner)[number] = sha;
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        for _ in 1..threads.min(order.len()) {
            scope.spawn(work);
        }
        work();
    });
    Ok(shas.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn hash_tensor(name: &str, tensor: &Tensor) -> Sha {
    let head = serde_json::json!([name, tensor.shape, tensor.element_name()]);
    let mut hash = Sha256::new();
    hash.update(format!("{head}\n"));
    for bytes in tensor.stored_bytes() {
        hash.update(bytes);
    }
    hash.finalize().into()
}

fn is_sha(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
