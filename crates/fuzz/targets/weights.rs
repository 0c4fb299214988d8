//! Any bytes as a safetensors or GGUF file: it must be refused, or every tensor must be readable.

#![no_main]

mod scratch;

use embergem_core::Tensors;
use libfuzzer_sys::fuzz_target;

/// Most values that are read from one tensor, so that each input takes little time.
const MAX_VALUES: usize = 1 << 16;

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
            rows.min(MAX_VALUES / width.max(1))
        };
        if some * width <= MAX_VALUES {
            let (values, row) = tensors.rows(name, 0, some).expect("a listed tensor can be read");
            assert_eq!((values.len(), row), (some * width, width));
        }
    }
});
