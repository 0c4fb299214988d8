//! The fingerprint of a vector space: equal if equal tokens give equal vectors, on every machine and for every layout
//! of the files.
//!
//! The fingerprint is a SHA-256 digest over
//! - one line for each tensor that the program reads, in name order. The line has the digest of the tensor's name
//!   without
//!   prefixes, its shape, its stored element type, its bytes and its scales;
//! - the tokenizer;
//! - the program's key, which stands for the head and for the config fields that enter the arithmetic.
//!
//! Tensors that the program does not read (the vision tower of a multimodal checkpoint), prompts, limits and the
//! precision chosen at load do not enter it. People store fingerprints beside their vectors: the format must not
//! change.

use crate::error::Error;
use crate::files::FileStates;
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

/// First line of the hashed text. A change of the format must change it.
const FORMAT: &str = "embergem-space/1";

/// A SHA-256 digest.
pub type Sha256Digest = [u8; 32];

/// Computes the fingerprint of a model's vector space, in hexadecimal.
///
/// `program` is JSON, `files` are the weight files as (name prefix, path), and `tokenizer_digest` computes the digest
/// of the file `tokenizer`. With `cache_directory` the result is stored there under the state of all files, so that the
/// weights are hashed once.
///
/// # Errors
/// [`Error::Program`] for an invalid program, [`Error::Io`] or [`Error::Corrupt`] for the files, [`Error::Tensor`] for a
/// tensor that is absent or has another shape, [`Error::Changed`] for a file that changed meanwhile, and those of
/// `tokenizer_digest`.
pub fn fingerprint<E: From<Error>>(
    program: &str,
    files: &[(&str, &Path)],
    tokenizer: &Path,
    tokenizer_digest: impl FnOnce() -> Result<Sha256Digest, E>,
    cache_directory: Option<&Path>,
) -> Result<String, E> {
    let paths = || files.iter().map(|(_, path)| *path).chain([tokenizer]);
    let memo = cache_directory.and_then(|directory| Memo::new(directory, "fingerprint", paths(), &[FORMAT, program]));
    if let Some(known) = memo.as_ref().and_then(Memo::read).filter(|text| is_digest(text)) {
        return Ok(known);
    }
    let program = Program::parse(program)?;
    let states = FileStates::of(paths())?;
    let checkpoint = Checkpoint::open(files.iter().copied())?.with_prefixes(&program.prefixes);
    let tensors = hash_tensors(&program, &checkpoint)?;
    let mut all = Sha256::new();
    all.update(format!("{FORMAT}\n"));
    for digest in tensors {
        all.update(format!("tensor {}\n", hex(&digest)));
    }
    all.update(format!(
        "tokenizer {}\nmodel {}\n",
        hex(&tokenizer_digest()?),
        program.key
    ));
    checkpoint.require_unchanged()?;
    states.require_unchanged()?;
    let found = hex(&all.finalize());
    if let Some(memo) = memo {
        memo.write(&found);
    }
    Ok(found)
}

/// Computes the digest of each tensor that the program reads, in name order.
///
/// The largest tensor is hashed first, because the embedding table has more than half of the bytes of most models. The
/// work has threads of its own: on the compute pool it would keep all models from computing until the largest tensor is
/// hashed.
fn hash_tensors(program: &Program, checkpoint: &Checkpoint) -> Result<Vec<Sha256Digest>, Error> {
    let sources = program.weights.iter().flat_map(|weight| &weight.sources);
    let shapes: BTreeMap<&str, &[usize]> = sources.map(|s| (s.tensor.as_str(), s.shape.as_slice())).collect();
    let tensors = shapes
        .into_iter()
        .map(|(name, shape)| Ok((name, checkpoint.stored(name, shape)?)))
        .collect::<Result<Vec<_>, Error>>()?;
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|number| Reverse(tensors[*number].1.stored_bytes()[0].len()));
    let digests = Mutex::new(vec![Sha256Digest::default(); tensors.len()]);
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(&number) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (name, tensor) = tensors[number];
            let digest = hash_tensor(name, tensor);
            digests.lock().unwrap_or_else(PoisonError::into_inner)[number] = digest;
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        for _ in 1..threads.min(order.len()) {
            if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break; // the system has no more threads: the others hash everything
            }
        }
        work();
    });
    Ok(digests.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn hash_tensor(name: &str, tensor: &Tensor) -> Sha256Digest {
    let header = serde_json::json!([name, tensor.shape, tensor.element_name()]);
    let mut hash = Sha256::new();
    hash.update(format!("{header}\n"));
    for bytes in tensor.stored_bytes() {
        hash.update(bytes);
    }
    hash.finalize().into()
}

/// Returns whether a stored result is a digest in hexadecimal: a damaged cache file is computed again.
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
