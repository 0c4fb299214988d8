//! Attention steps: keys and values of each text are packed, then tiles of queries attend.

use super::Run;
use crate::error::Result;
use crate::kernels::Matrix;
use crate::kernels::attention::{self, Attention, Bias, QueryTile, Span};
use crate::pool::Pool;
use crate::precision::Precision;
use crate::program::AttentionParameters;

impl Run<'_> {
    /// Executes an attention step. `buckets` is the bias by (relative position bucket, head).
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub(super) fn attention(
        &mut self,
        pool: &Pool,
        p: &AttentionParameters,
        buckets: Option<&[f32]>,
        inputs: &[Matrix],
        out: Matrix,
    ) -> Result<()> {
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
            tiles.extend(
                (0..text.len)
                    .step_by(attention::TILE_QUERIES)
                    .map(|first| QueryTile { span, first }),
            );
            spans.push(span);
        }
        let per_worker = (kernels.scratch_len)(self.batch.longest, p.head_dim, panel);
        let storage = self.model.buffers.len();
        self.buffers[storage].reserve(packed)?;
        self.buffers[storage + 1].reserve(per_worker * pool.threads())?;
        let scores = Matrix {
            data: self.buffers[storage + 1].as_mut_ptr(),
            stride: per_worker,
        };
        let bias = buckets.map(|buckets| {
            attention::bias_by_distance(buckets, p.heads, self.batch.longest, p.furthest.unwrap_or(128))
        });
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
            bias: bias.as_deref().map(|values| Bias {
                values,
                span: self.batch.longest,
            }),
            packed: Matrix {
                data: self.buffers[storage].as_mut_ptr(),
                stride: 0,
            },
        };
        pool.run(self.model.threads, spans.len() * p.kv_heads, &|task, _| {
            // SAFETY: `lower` checked that k and v lie inside their buffers and have the width of all heads. Each task
            // packs one text and head, and `packed` was sized for all of them.
            unsafe { (kernels.pack)(&args, spans[task / p.kv_heads], task % p.kv_heads) }
        });
        pool.run(self.model.threads, tiles.len() * p.heads, &|task, worker| {
            // SAFETY: `lower` checked that q and out lie inside their buffers and have the width of all heads. All keys
            // and values are packed. Each task writes its own queries and head, and each worker has scores of its own.
            unsafe {
                let scores = std::slice::from_raw_parts_mut(scores.row(worker), per_worker);
                (kernels.tile)(&args, tiles[task / p.heads], task % p.heads, scores);
            }
        });
        Ok(())
    }
}
