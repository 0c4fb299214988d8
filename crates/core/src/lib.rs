//! The compute half of embergem: a model's program, its mapped weights, and the kernels that run it.
//!
//! [`Model::load`] takes a program (JSON, traced from a Python model file) and safetensors files; [`Model::start`] checks
//! a packed batch and begins a [`Run`], which goes through the program's steps on the process's one compute [`Pool`].
//! No Python and no text in here.

mod aligned;
mod arbiter;
mod checkpoint;
mod cut;
mod dequantise;
mod error;
mod fingerprint;
mod gguf;
mod gguf_names;
mod kernels;
mod lower;
mod memory;
mod model;
mod notes;
mod packed;
mod packed_directory;
mod packed_file;
mod packed_weight;
mod pool;
mod program;
mod run;
mod scaled;
mod simd;
mod storage;
mod tensors;
mod weights;

pub use arbiter::{Arbiter, Lane};
pub use cut::cut;
pub use error::{Error, Result};
pub use fingerprint::{Sha, fingerprint};
pub use model::{Model, Options, Precision};
pub use notes::Note;
pub use packed::{BUILD, PackedCache, packed_limit};
pub use packed_directory::{Kept, kept as kept_packed};
pub use pool::Pool;
pub use run::{Progress, Run};
pub use tensors::Tensors;

/// Names of the kernels that this machine can run, the slowest first; see [`Options::kernels`].
pub fn instruction_sets() -> Vec<&'static str> {
    kernels::Kernels::all().iter().map(|kernels| kernels.name).collect()
}
