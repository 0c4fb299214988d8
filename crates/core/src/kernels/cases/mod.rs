//! Runs of each kernel on random numbers, which the start-up probe and the tests compare with the portable kernels.
//!
//! Operands are surrounded by NaN. A kernel that reads outside its operand gets NaN into its result, and a kernel that
//! writes outside it sets [`Output::out_of_bounds`].

mod attention;
mod gemm;
mod guarded;

pub use attention::AttentionCase;
pub use gemm::GemmCase;
pub use guarded::{Output, Random, agree};

use super::Kernels;
use super::elementwise::{Elementwise, Operation};
use super::gemm::Finish;
use super::norm::{self, Norm, Residual};
use super::pooling::{self, Normalise, Pool, Text};
use super::rope::{Angles, Rope, Scaling};
use crate::simd::tile::INT8_GROUP;
use guarded::{GuardedRows, ROUNDING};

/// A kernel and the sizes of its operands.
#[derive(Clone, Debug)]
pub enum Case {
    /// Matrix product in f32.
    Gemm(GemmCase),
    /// Matrix product with bfloat16 weights, of rows that are bfloat16 numbers.
    Bfloat16(GemmCase),
    /// Matrix product of 16-bit integers.
    Int16(GemmCase),
    /// Matrix product of 8-bit integers.
    Int8(GemmCase),
    /// Conversion of rows of this many elements to 16-bit integers.
    QuantiseInt16(usize),
    /// Conversion of rows of this many elements to 8-bit integers.
    QuantiseInt8(usize),
    /// Conversion of rows of this many elements to bfloat16 numbers.
    RoundBfloat16(usize),
    /// Attention.
    Attention(AttentionCase),
    /// A norm.
    Norm {
        /// Which statistics normalise a group.
        kind: norm::Kind,
        /// Number of adjacent features that are normalised together.
        group: usize,
        /// Groups of a row.
        groups: usize,
        /// Where the residual is added.
        residual: Option<Residual>,
        /// Whether there are a weight and a bias.
        affine: bool,
    },
    /// An elementwise operation on this many features.
    Elementwise(Operation, usize),
    /// Rotation of two heads of this many features.
    Rope(usize),
    /// Pooling of all rows, of this many features, as one text.
    Pool(pooling::Kind, usize),
    /// Scaling of rows of this many features to length 1.
    Normalise(usize),
}

impl Case {
    /// Returns the largest relative difference between two instruction sets, see [`agree`]. It is 0 for
    /// conversions and for sums of integers. Those of
    /// 16 bits are computed from rows with exact scales; those of 8 bits agree for any row.
    pub fn tolerance(&self) -> f32 {
        let exact = match self {
            Self::QuantiseInt16(_) | Self::QuantiseInt8(_) | Self::RoundBfloat16(_) => true,
            Self::Int16(product) => matches!(product.finish, Finish::Keep),
            // The sums of several groups are added in f32.
            Self::Int8(product) => matches!(product.finish, Finish::Keep) && product.shape.k <= INT8_GROUP,
            // A softmax weight with another rounding may become another integer.
            Self::Attention(AttentionCase { integers: true, .. }) => return 10.0 * ROUNDING,
            _ => false,
        };
        if exact { 0.0 } else { ROUNDING }
    }

    /// Runs the kernel on `rows` rows of random numbers, `step` rows a call. This machine must have the kernels.
    pub fn run(&self, kernels: &Kernels, seed: u64, rows: usize, step: usize) -> Output {
        let mut random = Random(seed);
        let mut chunks = (0..rows).step_by(step).map(|first| first..(first + step).min(rows));
        match self {
            Self::Gemm(product) => product.float32(kernels, &mut random, rows, &mut chunks),
            Self::Bfloat16(product) => product.bfloat16(kernels, &mut random, rows, &mut chunks),
            Self::Int16(product) => product.int16(kernels, &mut random, rows, &mut chunks),
            Self::Int8(product) => product.int8(kernels, &mut random, rows, &mut chunks),
            Self::QuantiseInt8(k) => gemm::quantise_int8(kernels, &mut random, (rows, *k), &mut chunks),
            Self::RoundBfloat16(k) => gemm::round_bfloat16(kernels, &mut random, (rows, *k), &mut chunks),
            Self::Attention(attention) => attention.run(kernels, &mut random, rows),
            Self::QuantiseInt16(k) => gemm::quantise_int16(kernels, &mut random, (rows, *k), &mut chunks),
            Self::Norm {
                kind,
                group,
                groups,
                residual,
                affine,
            } => {
                let width = group * groups;
                let mut x = GuardedRows::new(rows, width, || random.float());
                let mut out = GuardedRows::new(rows, width, || random.float());
                let (weight, bias) = (random.floats(*group), random.floats(*group));
                let target = out.matrix();
                let args = Norm {
                    kind: *kind,
                    eps: 1e-6,
                    x: x.matrix(),
                    out: target,
                    // The output replaces the residual, as in programs.
                    residual: residual.map(|position| (target, position)),
                    group: *group,
                    groups: *groups,
                    weight: affine.then_some(&weight),
                    bias: affine.then_some(&bias),
                };
                // SAFETY: the operands have the rows and columns that the arguments say, and the caller chose kernels
                // that this machine has.
                chunks.for_each(|chunk| unsafe { (kernels.norm)(&args, chunk) });
                out.output()
            }
            Self::Elementwise(operation, width) => {
                let mut a = GuardedRows::new(rows, *width, || random.float());
                let mut out = GuardedRows::new(rows, *width, || random.float());
                let target = out.matrix();
                let args = Elementwise {
                    operation: *operation,
                    a: a.matrix(),
                    b: target,
                    out: target,
                    width: *width,
                };
                // SAFETY: the operands have the rows and columns that the arguments say, and the caller chose kernels
                // that this machine has.
                chunks.for_each(|chunk| unsafe { (kernels.elementwise)(&args, chunk) });
                out.output()
            }
            Self::Rope(head_dim) => {
                const HEADS: usize = 2;
                let mut x = GuardedRows::new(rows, HEADS * head_dim, || random.float());
                let positions: Vec<u32> = (0..rows as u32).collect();
                let args = Rope {
                    x: x.matrix(),
                    heads: HEADS,
                    head_dim: *head_dim,
                    positions: &positions,
                    angles: &Angles::new(10_000.0, Scaling::None, *head_dim, rows),
                };
                // SAFETY: the operands have the rows and columns that the arguments say, and the caller chose kernels
                // that this machine has.
                chunks.for_each(|chunk| unsafe { (kernels.rope)(&args, chunk) });
                x.output()
            }
            Self::Pool(kind, width) => {
                let mut x = GuardedRows::new(rows, *width, || random.float());
                let mut out = GuardedRows::empty(1, *width);
                let args = Pool {
                    kind: *kind,
                    x: x.matrix(),
                    out: out.matrix(),
                    width: *width,
                };
                let text = Text {
                    start: 0,
                    len: rows,
                    row: 0,
                };
                if rows > 0 {
                    // SAFETY: x has the text's tokens, of which there is at least one, and out has one row; the caller
                    // chose kernels that this machine has.
                    unsafe { (kernels.pool)(&args, text) };
                }
                out.output()
            }
            Self::Normalise(width) => {
                let mut x = GuardedRows::new(rows, *width, || random.float());
                let mut out = GuardedRows::empty(rows, *width);
                let args = Normalise {
                    x: x.matrix(),
                    out: out.matrix(),
                    width: *width,
                };
                // SAFETY: the operands have the rows and columns that the arguments say, and the caller chose kernels
                // that this machine has.
                chunks.for_each(|chunk| unsafe { (kernels.normalise)(&args, chunk) });
                out.output()
            }
        }
    }
}
