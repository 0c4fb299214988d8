//! Attention steps: keys and values packed for each text, then tiles of queries.

use super::Run;
use crate::kernels::Matrix;
use crate::kernels::attention::{self, Attention, Bias, Span, Tile};
use crate::pool::Pool;
use crate::precision::Precision;
use crate::program::AttentionParameters;

impl Run<'_> {
    pub(super) fn attention(
        &mut self,
        pool: &Pool,
        p: &AttentionParameters,
        buckets: Option<&[f32]>,
        inputs: &[Matrix],
        out: Matrix,
    ) {
        let panel = self.model.kernels.panel;
        let kernels = match self.model.precision() {
            Precision::Float32 | Precision::Bfloat16 => &self.model.kernels.attention,
            Precision::Int16 | Precision::Int8 => &self.model.kernels.attention_int16,
        };
        let mut packed = 0;
        let mut tiles = Vec::new();
        let mut spans = Vec::with_capacity(self.batch.texts.len());
        for text in &self.batch.texts {
            let span = Span {
                start: text.start,
                len: text.len,
                packed,
            };
            packed += (kernels.packed_len)(text.len, p.kv_heads, p.head_dim, panel);
            tiles.extend((0..text.len).step_by(attention::TILE).map(|first| Tile { span, first }));
            spans.push(span);
        }
        let per_worker = (kernels.scratch_len)(self.batch.longest, p.head_dim, panel);
        let storage = self.model.buffers.len();
        self.arena[storage].reserve(packed);
        self.arena[storage + 1].reserve(per_worker * pool.threads());
        let scores = Matrix {
            data: self.arena[storage + 1].as_mut_ptr(),
            stride: per_worker,
        };
        let spread = buckets.map(|buckets| attention::spread_bias(buckets, p.heads, self.batch.longest));
        let args = Attention {
            q: inputs[0],
            k: inputs[1],
            v: inputs[2],
            out,
            heads: p.heads,
            kv_heads: p.kv_heads,
            head_dim: p.head_dim,
            scale: p.scale,
            causal: p.causal,
            radius: p.radius,
            bias: spread.as_deref().map(|values| Bias {
                values,
                span: self.batch.longest,
            }),
            packed: Matrix {
                data: self.arena[storage].as_mut_ptr(),
                stride: 0,
            },
        };
        pool.run(self.model.threads, spans.len() * p.kv_heads, &|task, _| {
            // SAFETY: lowering checked the operands; each task packs one text and head, and `packed` has room for all.
            unsafe { (kernels.pack)(&args, spans[task / p.kv_heads], task % p.kv_heads) }
        });
        pool.run(self.model.threads, tiles.len() * p.heads, &|task, worker| {
            // SAFETY: as above; each task writes its own queries and head, each worker has scores of its own.
            unsafe {
                let scores = std::slice::from_raw_parts_mut(scores.row(worker), per_worker);
                (kernels.tile)(&args, tiles[task / p.heads], task % p.heads, scores);
            }
        });
    }
}
