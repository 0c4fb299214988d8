//! Cases of attention.

use super::guarded::{GuardedRows, Output, Random};
use crate::kernels::attention::{self, Attention, Bias, Span};
use crate::kernels::{Kernels, Matrix};

/// A case of attention. The rows are divided into texts of `text` tokens.
#[derive(Clone, Copy, Debug)]
pub struct AttentionCase {
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads.
    pub kv_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Tokens of a text. The last text may have fewer.
    pub text: usize,
    /// A query attends only to keys at its own position or before it.
    pub causal: bool,
    /// A query attends only to keys at most this many positions away.
    pub radius: Option<usize>,
    /// Whether there is a bias by distance.
    pub bias: bool,
    /// Whether it is computed in 16-bit integers.
    pub integers: bool,
}

impl AttentionCase {
    /// Runs the kernels on `rows` rows of random numbers.
    pub fn run(&self, kernels: &Kernels, random: &mut Random, rows: usize) -> Output {
        let (width, kv_width) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let panel = kernels.panel;
        let kernels = if self.integers {
            &kernels.attention_int16
        } else {
            &kernels.attention
        };
        let mut q = GuardedRows::new(rows, width, || random.float());
        let mut k = GuardedRows::new(rows, kv_width, || random.float());
        let mut v = GuardedRows::new(rows, kv_width, || random.float());
        let mut out = GuardedRows::empty(rows, width);
        let bias = attention::bias_by_distance(&random.floats(32 * self.heads), self.heads, self.text, 128);
        let mut packed = 0;
        let starts = (0..rows).step_by(self.text);
        let spans: Vec<Span> = starts
            .map(|start| {
                let len = self.text.min(rows - start);
                let offset = packed;
                packed += (kernels.packed_len)(len, self.kv_heads, self.head_dim, panel);
                Span {
                    start,
                    len,
                    packed: offset,
                }
            })
            .collect();
        let mut packed = vec![f32::NAN; packed];
        let mut scratch = vec![f32::NAN; (kernels.scratch_len)(self.text, self.head_dim, panel)];
        let args = Attention {
            q: q.matrix(),
            k: k.matrix(),
            v: v.matrix(),
            out: out.matrix(),
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: 0.1,
            causal: self.causal,
            radius: self.radius,
            bias: self.bias.then_some(Bias {
                values: &bias,
                span: self.text,
            }),
            packed: Matrix {
                data: packed.as_mut_ptr(),
                stride: 0,
            },
        };
        for &span in &spans {
            for head in 0..self.kv_heads {
                // SAFETY: the operands have `rows` rows of all heads, `packed` has room for every text, and the caller
                // of `Case::run` chose kernels that this machine has.
                unsafe { (kernels.pack)(&args, span, head) };
            }
            for first in (0..span.len).step_by(attention::TILE_QUERIES) {
                for head in 0..self.heads {
                    // SAFETY: the operands have `rows` rows of all heads, the text is packed, `scratch` has the length
                    // that `scratch_len` returns, and this machine has the kernels.
                    unsafe { (kernels.tile)(&args, attention::QueryTile { span, first }, head, &mut scratch) };
                }
            }
        }
        out.output()
    }
}
