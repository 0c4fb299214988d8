//! A model that packs the weight of each product when a run comes to it, in memory that the next product uses again.
//!
//! Separate runs in another precision belong to the first start of a model: they measure activations and compare the
//! vectors of a dtype with those in float32. Each of them needs every weight once, so packing all of them first would
//! only take memory, which the system has to find and to clear.

use super::{Model, Options, find_kernels, packed_weights};
use crate::error::Result;
use crate::format::checkpoint::Checkpoint;
use crate::hex::sha256_hex;
use crate::kernels::panels::Shape;
use crate::lower::{Op, lower};
use crate::packed::weight::PackedWeight;
use crate::packed::{PackProgress, PackedMatrices};
use crate::pool::Pool;
use crate::program::{Axis, Program};
use crate::weights::Rows;
use std::path::Path;
use std::sync::Arc;

/// A lowered program whose weights of products are in the checkpoint.
pub struct Streamed {
    model: Model,
    program: Program,
    checkpoint: Checkpoint,
    progress: Option<Arc<PackProgress>>,
}

impl Streamed {
    /// Parses `program` (JSON) and maps `files`, given as (name prefix, path). The values of the embedding tables are not
    /// checked.
    ///
    /// # Errors
    /// Those of [`Model::load`].
    pub fn open(program: &str, files: &[(&str, &Path)], options: Options<'_>) -> Result<Self> {
        let (text, program) = (program, Program::parse(program)?);
        let kernels = find_kernels(options.kernels)?;
        let checkpoint = Checkpoint::open(files.iter().copied())?.with_prefixes(&program.prefixes);
        let mut none = PackedMatrices::unpacked();
        let steps = lower(
            &program,
            &checkpoint,
            kernels,
            options.precision,
            &no_exponents,
            &mut none,
        )?;
        let model = Model::assemble(sha256_hex(text), &program, steps, kernels, options)?;
        Ok(Self {
            model,
            program,
            checkpoint,
            progress: options.progress.cloned(),
        })
    }

    /// Returns the lowered program, of which products cannot run: their weights are not packed.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Computes a batch, and calls `observe` with the number of each product of tokens and the rows that it multiplies.
    ///
    /// Between two steps other runs go first when it is their turn.
    ///
    /// # Errors
    /// Those of [`Model::start`], of [`crate::Run::vectors`] and of packing a weight; [`crate::Error::Changed`] if a file of
    /// the checkpoint was changed since it was opened.
    pub fn run(
        &self,
        ids: &[u32],
        cu_seqlens: &[u32],
        mut observe: impl FnMut(usize, Vec<&[f32]>),
    ) -> Result<Vec<f32>> {
        let pool = Pool::global();
        if let Some(progress) = &self.progress {
            progress.expect(packed_weights(&self.program));
        }
        let mut run = self.model.start(ids, cu_seqlens)?;
        for (number, step) in self.model.steps.iter().enumerate() {
            let packed = match &step.op {
                Op::Linear { weight, .. } => Some(self.pack(number, weight)?),
                _ => None,
            };
            if packed.is_some() && step.axis == Axis::Tokens {
                observe(number, run.input_rows(step));
            }
            run.execute_step(pool, step, packed.as_ref())?;
        }
        self.checkpoint.require_unchanged()?;
        self.checkpoint.release_pages();
        run.vectors()
    }

    /// Packs the weight of a product. `unpacked` has its shape and precision.
    fn pack(&self, number: usize, unpacked: &PackedWeight) -> Result<PackedWeight> {
        let step = &self.program.steps[number];
        let spec = &self.program.weights[step.weights["weight"]];
        let mut matrices = PackedMatrices::in_memory();
        if let Some(progress) = &self.progress {
            matrices.progress = Arc::clone(progress);
        }
        PackedWeight::pack(
            &self.checkpoint,
            spec,
            unpacked.shape(),
            self.model.kernels,
            unpacked.precision(),
            (&no_exponents, number),
            &mut matrices,
        )
    }
}

/// The smoothing of a model in another precision than int8.
fn no_exponents(_: usize, _: &Rows<'_>, _: Shape) -> Result<Vec<i8>> {
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::precision::Precision;
    use serde_json::json;
    use std::sync::atomic::AtomicBool;

    const TENSORS: [(&str, [usize; 2]); 3] = [("table", [5, 12]), ("gated", [14, 12]), ("dense", [12, 7])];

    fn program() -> String {
        let at = |buffer: usize, width: usize| json!({"buffer": buffer, "column": 0, "width": width});
        let product = |out, input, weight: usize, gate| {
            let parameters = json!({"activation": null, "gate": gate});
            json!({"op": "linear", "out": out, "inputs": [input], "weights": {"weight": weight}, "parameters": parameters})
        };
        json!({
            "format": "embergem-program/1",
            "key": "test",
            "weights": TENSORS.map(|(name, shape)| {
                json!({"sources": [{"tensor": name, "shape": shape, "rows": null}], "add": 0.0})
            }),
            "buffers": [
                {"width": 12, "axis": "tokens"},
                {"width": 7, "axis": "tokens"},
                {"width": 12, "axis": "rows"},
                {"width": 7, "axis": "rows"},
            ],
            "steps": [
                {"op": "embed", "out": at(0, 12), "inputs": [], "weights": {"table": 0}, "parameters": {"offset": 0}},
                product(at(1, 7), at(0, 12), 1, json!("silu")),
                product(at(0, 12), at(1, 7), 2, json!(null)),
                {"op": "pool", "out": at(2, 12), "inputs": [at(0, 12)], "weights": {}, "parameters": {"kind": "mean"}},
                product(at(3, 7), at(2, 12), 1, json!("silu")),
            ],
            "output": at(3, 7),
        })
        .to_string()
    }

    fn checkpoint() -> Vec<u8> {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, shape) in TENSORS {
            let start = data.len();
            let count: usize = shape.iter().product();
            data.extend((0..count).flat_map(|i| (((i * 37 + start) % 23) as f32 / 23.0 - 0.4).to_le_bytes()));
            let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
            header.insert(name.into(), entry);
        }
        let header = json!(header).to_string();
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
    }

    #[test]
    fn vectors_have_the_bits_of_a_model_with_packed_weights() {
        let (program, ids, ends) = (program(), [3, 0, 4, 1], [0, 1, 4]);
        let path = std::env::temp_dir().join(format!("embergem-streamed-{}.safetensors", std::process::id()));
        std::fs::write(&path, checkpoint()).unwrap();
        let files = [("", path.as_path())];
        for precision in [Precision::Float32, Precision::Bfloat16, Precision::Int16] {
            let progress = Arc::new(PackProgress::default());
            let options = Options {
                precision,
                progress: Some(&progress),
                ..Options::default()
            };
            let model = Model::load(&program, files, options).unwrap();
            let mut run = model.start(&ids, &ends).unwrap();
            run.advance(Pool::global(), &AtomicBool::new(false));
            let expected = run.vectors().unwrap();

            let streamed = Streamed::open(&program, &files, options).unwrap();
            let mut observed = Vec::new();
            let found = streamed.run(&ids, &ends, |step, rows| {
                observed.push((step, rows.len(), rows[0].len()))
            });
            assert_eq!(found.unwrap(), expected, "{precision:?}");
            assert_eq!(observed, [(1, 4, 12), (2, 4, 7)], "products of tokens");
            let (packed, total) = progress.read();
            assert_eq!(packed, total, "a load and a run pack every weight");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
