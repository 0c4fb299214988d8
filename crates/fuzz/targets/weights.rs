//! Any bytes as a weight file, safetensors or GGUF: refused, or every tensor can be read.

#![no_main]

mod scratch;

use embergem_core::Tensors;
use libfuzzer_sys::fuzz_target;

/// Values that are read of one tensor at most: a file of zeros may hold many.
const MOST: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let path = scratch::file(bytes);
    let Ok(tensors) = Tensors::open([("", path.as_path())]) else {
        return;
    };
    for (name, shape, _) in tensors.list() {
        let width: usize = shape.iter().skip(1).product();
        let rows = shape.first().copied().unwrap_or(1);
        let some = if shape.len() < 2 {
            rows
        } else {
            rows.min(MOST / width.max(1))
        };
        if some * width <= MOST {
            let (values, row) = tensors.rows(name, 0, some).expect("a listed tensor can be read");
            assert_eq!((values.len(), row), (some * width, width));
        }
    }
});
