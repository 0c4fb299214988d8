//! Weight files: safetensors and GGUF files mapped into memory, and their tensors as floats.

pub mod checkpoint;
pub mod dequantise;
pub mod gguf;
mod gguf_names;
pub mod integers;
pub mod tensors;
