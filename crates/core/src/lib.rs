//! The compute half of embergem: programs, mapped weights, and the kernels that run them.
//!
//! [`Model::load`] takes a program (JSON, traced from a Python model definition) and weight files. [`Model::start`]
//! checks a packed batch and begins a [`Run`], which executes the program's steps on the compute [`Pool`] of the
//! process. This crate contains no Python and no text processing.

mod aligned;
mod arbiter;
mod calibration;
mod error;
mod files;
mod fingerprint;
mod format;
mod hadamard;
mod hex;
mod kernels;
mod lower;
mod mapped;
mod matryoshka;
mod memo;
mod memory;
mod model;
mod packed;
mod pool;
mod precision;
mod program;
mod run;
mod sigbus;
mod simd;
mod smoothing_factors;
mod storage;
mod unread;
mod weights;

pub use arbiter::{Arbiter, Lane};
pub use calibration::{BATCH_BUDGETS, cosine};
pub use error::{Error, Result};
pub use files::FileStates;
pub use fingerprint::{Sha256Digest, fingerprint};
pub use format::tensors::Tensors;
pub use matryoshka::truncate_dimensions;
pub use memo::Memo;
pub use memory::{available as available_memory, require as require_memory};
pub use model::{Model, Options};
pub use packed::directory::{PackedFile, packed_files};
pub use packed::{BUILD, PackProgress, PackedCache, parse_size};
pub use pool::Pool;
pub use precision::Precision;
pub use run::{Progress, Run};
pub use unread::require_all_read;

/// Returns the names of the instruction sets that this machine can run, slowest first. See [`Options::kernels`].
pub fn instruction_sets() -> Vec<&'static str> {
    kernels::Kernels::all().iter().map(|kernels| kernels.name).collect()
}
