//! Attention within texts.

use super::guarded::{Field, Numbers, Outcome};
use crate::kernels::attention::{self, Attention, Bias, Span};
use crate::kernels::{Kernels, Matrix};

/// The rows are cut into texts of `text` tokens.
#[derive(Clone, Copy, Debug)]
pub struct Attend {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Tokens of a text; the last may have fewer.
    pub text: usize,
    /// No later keys.
    pub causal: bool,
    /// Keys at most this far away.
    pub radius: Option<usize>,
    /// With a bias by distance.
    pub bias: bool,
    /// In 16-bit integers.
    pub integers: bool,
}

impl Attend {
    /// Runs on `rows` rows.
    pub fn run(&self, kernels: &Kernels, numbers: &mut Numbers, rows: usize) -> Outcome {
        let (width, kv_width) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let panel = kernels.panel;
        let kernels = if self.integers {
            &kernels.attention_int16
        } else {
            &kernels.attention
        };
        let mut q = Field::new(rows, width, || numbers.float());
        let mut k = Field::new(rows, kv_width, || numbers.float());
        let mut v = Field::new(rows, kv_width, || numbers.float());
        let mut out = Field::empty(rows, width);
        let bias = attention::spread_bias(&numbers.floats(32 * self.heads), self.heads, self.text);
        let mut packed = 0;
        let starts = (0..rows).step_by(self.text);
        let spans: Vec<Span> = starts
            .map(|start| {
                let len = self.text.min(rows - start);
                let at = packed;
                packed += (kernels.packed_len)(len, self.kv_heads, self.head_dim, panel);
                Span { start, len, packed: at }
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
                // SAFETY: as in `Product::floats`; `packed` has room for every text.
                unsafe { (kernels.pack)(&args, span, head) };
            }
            for first in (0..span.len).step_by(attention::TILE) {
                for head in 0..self.heads {
                    // SAFETY: as above.
                    unsafe { (kernels.tile)(&args, attention::Tile { span, first }, head, &mut scratch) };
                }
            }
        }
        out.outcome()
    }
}
