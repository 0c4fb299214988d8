//! The compute half of embergem: a model's program, its mapped weights, and the kernels that run it.
//!
//! [`Model::load`] takes a program (JSON, traced from a Python model file) and safetensors files; [`Model::start`] checks
//! a packed batch and begins a [`Run`], which goes through the program's steps on the process's one compute [`Pool`].
//! No Python and no text in here.

mod aligned;
mod arbiter;
mod calibration;
mod error;
mod files;
mod fingerprint;
mod format;
mod hex;
mod kernels;
mod lower;
mod matryoshka;
mod memo;
mod memory;
mod model;
mod packed;
mod pool;
mod precision;
mod program;
mod run;
mod simd;
mod storage;
mod weights;

pub use arbiter::{Arbiter, Lane};
pub use calibration::{BATCH_BUDGETS, cosine};
pub use error::{Error, Result};
pub use fingerprint::{Sha, fingerprint};
pub use format::tensors::Tensors;
pub use matryoshka::cut;
pub use memo::Memo;
pub use model::{Model, Options};
pub use packed::directory::{Kept, kept as kept_packed};
pub use packed::{BUILD, PackedCache, packed_limit};
pub use pool::Pool;
pub use precision::Precision;
pub use run::{Progress, Run};

/// Names of the kernels that this machine can run, the slowest first; see [`Options::kernels`].
pub fn instruction_sets() -> Vec<&'static str> {
    kernels::Kernels::all().iter().map(|kernels| kernels.name).collect()
}
