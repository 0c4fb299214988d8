//! A small model that uses every operation, with its weights in a temporary file.

use embergem_core::{Model, Options, Pool, Progress, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Rows of the embedding table.
pub const VOCABULARY: usize = 11;
/// Positions of the position table: the most tokens of a text.
pub const MAX_TOKENS: usize = 9;

const WIDTH: usize = 12;

/// Names and shapes of the tensors.
const TENSORS: [(&str, &[usize]); 10] = [
    ("table", &[VOCABULARY, WIDTH]),
    ("positions", &[MAX_TOKENS + 2, WIDTH]),
    ("types", &[2, WIDTH]),
    ("norm", &[WIDTH]),
    ("small_norm", &[3]),
    ("qkv", &[24, WIDTH]),
    ("qkv_bias", &[24]),
    ("buckets", &[8, 4]),
    ("gate", &[14, WIDTH]),
    ("down", &[WIDTH, 7]),
];

/// A file that is removed when dropped.
pub struct TempFile(pub PathBuf);

impl TempFile {
    /// Writes the file. `name` must differ between tests.
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("embergem-{}-{name}.safetensors", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// Returns a safetensors file with every tensor, filled with small numbers. Its data begins at an odd offset.
pub fn checkpoint() -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (number, (name, shape)) in TENSORS.iter().enumerate() {
        let start = data.len();
        let count: usize = shape.iter().product();
        for i in 0..count {
            let value = ((i * 37 + number * 11) % 23) as f32 / 23.0 - 0.4;
            data.extend(value.to_le_bytes());
        }
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert((*name).into(), entry);
    }
    let mut header = Value::Object(header).to_string();
    while header.len() % 4 != 3 {
        header.push(' ');
    }
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// Returns the program: every operation, on widths that are not a multiple of any vector.
pub fn program() -> Value {
    let weight = |name: &str| {
        let shape = TENSORS.iter().find(|tensor| tensor.0 == name).unwrap().1;
        json!({"sources": [{"tensor": name, "shape": shape, "rows": null}], "add": 0.0})
    };
    let at = |buffer: usize, column: usize, width: usize| json!({"buffer": buffer, "column": column, "width": width});
    let step = |op: &str, out: Value, inputs: Vec<Value>, weights: Value, parameters: Value| json!({"op": op, "out": out, "inputs": inputs, "weights": weights, "parameters": parameters});
    let whole = at(0, 0, 12);
    json!({
        "format": "embergem-program/1",
        "key": "test",
        "weights": TENSORS.map(|tensor| weight(tensor.0)),
        "buffers": [
            {"width": 12, "axis": "tokens"},
            {"width": 24, "axis": "tokens"},
            {"width": 12, "axis": "tokens"},
            {"width": 13, "axis": "rows"},
        ],
        "steps": [
            step("embed", whole.clone(), vec![], json!({"table": 0, "positions": 1, "types": 2}), json!({"offset": 2, "by": 1.5})),
            step("norm", whole.clone(), vec![whole.clone()], json!({"weight": 3}), json!({"kind": "rms", "eps": 1e-6, "group": 12, "residual": null})),
            step("linear", at(1, 0, 24), vec![whole.clone()], json!({"weight": 5, "bias": 6}), json!({"activation": null, "gate": null})),
            step("norm", at(1, 0, 12), vec![at(1, 0, 12)], json!({"weight": 4}), json!({"kind": "layer", "eps": 1e-6, "group": 3, "residual": null})),
            step("rope", at(1, 12, 6), vec![at(1, 12, 6)], json!({}), json!({"head_dim": 6, "theta": 100.0, "dim": 6})),
            step("attention", at(2, 0, 12), vec![at(1, 0, 12), at(1, 12, 6), at(1, 18, 6)], json!({"bias": 7}), json!({"heads": 4, "kv_heads": 2, "head_dim": 3, "scale": 0.5, "causal": false, "radius": 3})),
            step("norm", whole.clone(), vec![at(2, 0, 12), whole.clone()], json!({"weight": 3}), json!({"kind": "rms", "eps": 1e-6, "group": 12, "residual": "before"})),
            step("linear", at(1, 1, 7), vec![whole.clone()], json!({"weight": 8}), json!({"activation": null, "gate": "gelu_tanh"})),
            step("linear", at(2, 0, 12), vec![at(1, 1, 7)], json!({"weight": 9}), json!({"activation": "silu", "gate": null})),
            step("add", whole.clone(), vec![whole.clone(), at(2, 0, 12)], json!({}), json!({})),
            step("glu", at(2, 0, 12), vec![whole.clone(), at(2, 0, 12)], json!({}), json!({"kind": "silu"})),
            step("activation", at(2, 0, 12), vec![at(2, 0, 12)], json!({}), json!({"kind": "tanh"})),
            step("scale", whole.clone(), vec![whole.clone()], json!({}), json!({"by": 0.25})),
            step("pool", at(3, 1, 12), vec![whole.clone()], json!({}), json!({"kind": "mean"})),
            step("normalise", at(3, 1, 12), vec![at(3, 1, 12)], json!({}), json!({})),
        ],
        "output": at(3, 1, 12),
    })
}

/// Loads a program with the weights of `file`.
pub fn load(program: &Value, file: &Path, options: Options<'_>) -> Result<Model> {
    Model::load(&program.to_string(), [("", file)], options)
}

/// Runs one batch and returns its vectors.
pub fn vectors(model: &Model, ids: &[u32], cu_seqlens: &[u32]) -> Result<Vec<f32>> {
    let mut run = model.start(ids, cu_seqlens)?;
    assert_eq!(run.advance(Pool::global(), &AtomicBool::new(false)), Progress::Done);
    run.vectors()
}
