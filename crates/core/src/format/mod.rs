//! Weight files: safetensors and GGUF files mapped into memory, and their tensors read as f32.

pub mod checkpoint;
mod dequantise;
mod element;
mod gguf;
mod gguf_names;
mod half;
pub mod integers;
pub mod table;
pub mod tensor;
pub mod tensors;
