//! A program with random changes: it must be refused, or run on a batch and return finite vectors of the right size.
//!
//! The input is a list of changes of three bytes each: the index of a leaf of the JSON (two bytes) and the new value.
//! Loading checks every size and offset, and kernels run without checks. AddressSanitizer detects what the checks miss.

#![no_main]

#[path = "../../core/tests/common/mod.rs"]
mod common;
mod scratch;

use embergem_core::{Error, Options, Precision};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use std::sync::LazyLock;

const IDS: [u32; 14] = [1, 2, 3, 10, 0, 5, 5, 5, 9, 4, 7, 7, 1, 0];
const OFFSETS: [u32; 5] = [0, 1, 9, 9, 14];

/// JSON pointers to all values of the program that are neither list nor object.
static LEAVES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), common::program())];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items.into_iter().enumerate().map(|(i, v)| (format!("{path}/{i}"), v))),
            Value::Object(map) => open.extend(map.into_iter().map(|(key, v)| (format!("{path}/{key}"), v))),
            _ => found.push(path),
        }
    }
    found.sort();
    found
});

fn value(byte: u8) -> Value {
    match byte {
        0..=199 => json!(byte / 4),
        200..=219 => json!(1u64 << (byte - 200 + 12)),
        220 => json!(u64::MAX),
        221 => json!(-1),
        222 => json!(1e30),
        223 => Value::Null,
        224 => json!(true),
        225 => json!(0.5),
        226 => json!("rows"),
        227 => json!("tokens"),
        228 => json!("before"),
        229 => json!("gelu_tanh"),
        230 => json!([0, 4]),
        231 => json!([8, 24]),
        232 => json!("linear"),
        233 => json!("attention"),
        234 => json!("rope"),
        235 => json!("pool"),
        236 => json!("max"),
        237 => json!("cls"),
        238 => json!("last"),
        239 => json!("layer"),
        240 => json!("rms"),
        _ => json!(byte - 230),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (precision, changes) = match bytes.split_first() {
        Some((first, rest)) => (first % 4, rest),
        None => return,
    };
    let precision = [
        Precision::Float32,
        Precision::Bfloat16,
        Precision::Int16,
        Precision::Int8,
    ][precision as usize];
    let mut program = common::program();
    for change in changes.as_chunks::<3>().0.iter().take(8) {
        let index = usize::from(u16::from_le_bytes([change[0], change[1]]));
        if let Some(leaf) = program.pointer_mut(&LEAVES[index % LEAVES.len()]) {
            *leaf = value(change[2]);
        }
    }
    let file = scratch::file(&common::checkpoint());
    let options = Options {
        precision,
        ..Options::default()
    };
    let Ok(model) = common::load(&program, &file, options) else {
        return;
    };
    match common::vectors(&model, &IDS, &OFFSETS) {
        Ok(vectors) => assert!(vectors.len() == 4 * model.dimensions() && vectors.iter().all(|v| v.is_finite())),
        Err(Error::Program(_) | Error::Batch(_) | Error::NonFinite { .. }) => {}
        Err(other) => panic!("a loaded program failed with {other}"),
    }
});
