//! The tensors that a program does not read: those known to change no vector, and an error for all others.

use crate::error::{Error, Result};
use crate::format::checkpoint::Checkpoint;
use crate::program::Program;
use std::collections::HashSet;
use std::path::Path;

/// Last parts of the names of tensors that hold no trained numbers.
const BUFFERS: [&str; 2] = ["position_ids", "inv_freq"];
/// First parts of the names of tensors that no vector depends on, after the prefixes that the reader knows.
const PARTS: [(&[&str], &str); 4] = [
    (
        &[
            "lm_head",
            "cls",
            "predictions",
            "sop_classifier",
            "vocab_transform",
            "vocab_layer_norm",
            "vocab_projector",
            "head",
        ],
        "predicts tokens",
    ),
    (
        &["classifier", "pre_classifier", "score", "qa_outputs", "pooler"],
        "belongs to a classifier, which reads the hidden states",
    ),
    (&["decoder"], "belongs to the decoder, which is not run"),
    (
        &[
            "vision_tower",
            "audio_tower",
            "embed_vision",
            "embed_audio",
            "multi_modal_projector",
        ],
        "reads images or audio",
    ),
];
/// Names of one table of T5: files have the table under one of them or under both.
const SHARED: [&str; 2] = ["shared.weight", "encoder.embed_tokens.weight"];

/// Refuses weight files with a tensor that `program` (JSON) does not read and that is not known to change no vector.
///
/// # Errors
/// [`Error::Unread`] names the first such tensor; [`Error::Program`] for an invalid program, and [`Error::Io`],
/// [`Error::Corrupt`] or [`Error::Tensor`] (a missing tensor) for the files.
pub fn require_all_read<'a>(program: &str, files: impl IntoIterator<Item = (&'a str, &'a Path)>) -> Result<()> {
    let program = Program::parse(program)?;
    let checkpoint = Checkpoint::open(files)?.with_prefixes(&program.prefixes);
    let mut read = HashSet::new();
    for source in program.weights.iter().flat_map(|weight| &weight.sources) {
        read.insert(checkpoint.stored_name(&source.tensor)?);
    }
    let mut unread: Vec<_> = checkpoint
        .names()
        .filter(|(name, _)| !read.contains(*name) && !is_known(&checkpoint, name, &read))
        .collect();
    unread.sort_unstable();
    match unread.first() {
        None => Ok(()),
        Some((name, path)) => Err(Error::Unread {
            name: (*name).to_owned(),
            path: path.to_path_buf(),
        }),
    }
}

fn is_known(checkpoint: &Checkpoint, name: &str, read: &HashSet<&str>) -> bool {
    let plain = checkpoint.without_prefix(name);
    let first = plain.split('.').next().unwrap_or_default();
    let last = plain.rsplit('.').next().unwrap_or_default();
    let integers = [".scales", ".exponents"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix));
    BUFFERS.contains(&last)
        || PARTS.iter().any(|(parts, _)| parts.contains(&first))
        || SHARED.contains(&plain) && SHARED.iter().any(|shared| read.contains(*shared))
        || integers.is_some_and(|tensor| read.contains(tensor))
}
