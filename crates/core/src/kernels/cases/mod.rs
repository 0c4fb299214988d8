//! One run of each kernel on made-up numbers: what the start-up probe and the tests hold against the portable kernels.
//!
//! Operands stand inside larger fields whose other places hold NaN. A kernel that reads past its operand gets one into
//! its result; a kernel that writes past it is found out by [`Outcome::stray`].

mod attention;
mod gemm;
mod guarded;

pub use attention::Attend;
pub use gemm::Product;
pub use guarded::{Numbers, Outcome, same};

use super::elementwise::{Elementwise, Operation};
use super::gemm::Finish;
use super::norm::{self, Norm, Residual};
use super::pooling::{self, Normalise, Pool, Text};
use super::rope::{Angles, Rope};
use super::{Kernels, int16};
use crate::simd::tile::INT8_GROUP;
use guarded::{Field, ROUNDING};

/// What to run, and on which sizes.
#[derive(Clone, Debug)]
pub enum Trial {
    /// Product of floats.
    Product(Product),
    /// Product of floats with bfloat16 weights.
    Bfloat16(Product),
    /// Product of 16-bit integers; see [`Trial::tolerance`].
    Int16(Product),
    /// Product of 16-bit integers with 8-bit weights.
    Int8(Product),
    /// Rows of so many elements to 16-bit integers.
    QuantiseInt16(usize),
    /// Attention.
    Attend(Attend),
    /// A norm.
    Norm {
        /// Which statistics.
        kind: norm::Kind,
        /// Features normalised together.
        group: usize,
        /// Groups of a row.
        groups: usize,
        /// Where the residual enters.
        residual: Option<Residual>,
        /// With a weight and a bias.
        affine: bool,
    },
    /// An operation on so many features.
    Elementwise(Operation, usize),
    /// Turns `2 · half` of the `head_dim` features of two heads.
    Rope {
        /// Pairs that turn.
        half: usize,
        /// Features of a head.
        head_dim: usize,
    },
    /// Pools all rows as one text.
    Pool(pooling::Kind, usize),
    /// Rows of so many features to length 1.
    Normalise(usize),
}

impl Trial {
    /// How far other kernels may be off, see [`same`]: not at all in integers, from rows whose scales are exact.
    pub fn tolerance(&self) -> f32 {
        let exact = match self {
            Self::QuantiseInt16(_) => true,
            Self::Int16(product) => matches!(product.finish, Finish::Keep),
            // The sums of several groups are added as floats.
            Self::Int8(product) => matches!(product.finish, Finish::Keep) && product.shape.k <= INT8_GROUP,
            // A weight of the softmax that is rounded otherwise may become another integer.
            Self::Attend(Attend { integers: true, .. }) => return 10.0 * ROUNDING,
            _ => false,
        };
        if exact { 0.0 } else { ROUNDING }
    }

    /// Runs on `rows` rows, `step` of them a call.
    pub fn run(&self, kernels: &Kernels, seed: u64, rows: usize, step: usize) -> Outcome {
        let mut numbers = Numbers(seed);
        let mut chunks = (0..rows).step_by(step).map(|first| first..(first + step).min(rows));
        // SAFETY, for every call: fields have the rows and columns that the arguments tell, and the caller chose kernels
        // that the machine can run.
        match self {
            Self::Product(product) => product.floats(kernels, &mut numbers, rows, &mut chunks),
            Self::Bfloat16(product) => product.bfloat16(kernels, &mut numbers, rows, &mut chunks),
            Self::Int16(product) => product.int16(kernels, &mut numbers, rows, &mut chunks),
            Self::Int8(product) => product.int8(kernels, &mut numbers, rows, &mut chunks),
            Self::Attend(attend) => attend.run(kernels, &mut numbers, rows),
            Self::QuantiseInt16(k) => {
                let mut x = Field::coarse(rows, *k, &mut numbers);
                let (mut out, mut scales) = (Field::empty(rows, int16::pairs(*k)), Field::empty(rows, 1));
                let args = int16::Quantise {
                    x: x.matrix(),
                    k: *k,
                    out: out.matrix(),
                    scales: scales.matrix(),
                    largest_norm: int16::row_norm(*k),
                };
                // SAFETY: see above.
                chunks.for_each(|chunk| unsafe { (kernels.quantise)(&args, chunk) });
                let (mut ints, scales) = (out.outcome(), scales.outcome());
                ints.values.extend(scales.values);
                ints.stray |= scales.stray;
                ints
            }
            Self::Norm {
                kind,
                group,
                groups,
                residual,
                affine,
            } => {
                let width = group * groups;
                let mut x = Field::new(rows, width, || numbers.float());
                let mut out = Field::new(rows, width, || numbers.float());
                let (weight, bias) = (numbers.floats(*group), numbers.floats(*group));
                let target = out.matrix();
                let args = Norm {
                    kind: *kind,
                    eps: 1e-6,
                    x: x.matrix(),
                    out: target,
                    // In place of the residual, as programs have it.
                    residual: residual.map(|place| (target, place)),
                    group: *group,
                    groups: *groups,
                    weight: affine.then_some(&weight),
                    bias: affine.then_some(&bias),
                };
                // SAFETY: see above.
                chunks.for_each(|chunk| unsafe { (kernels.norm)(&args, chunk) });
                out.outcome()
            }
            Self::Elementwise(operation, width) => {
                let mut a = Field::new(rows, *width, || numbers.float());
                let mut out = Field::new(rows, *width, || numbers.float());
                let target = out.matrix();
                let args = Elementwise {
                    operation: *operation,
                    a: a.matrix(),
                    b: target,
                    out: target,
                    width: *width,
                };
                // SAFETY: see above.
                chunks.for_each(|chunk| unsafe { (kernels.elementwise)(&args, chunk) });
                out.outcome()
            }
            Self::Rope { half, head_dim } => {
                const HEADS: usize = 2;
                let mut x = Field::new(rows, HEADS * head_dim, || numbers.float());
                let places: Vec<u32> = (0..rows as u32).collect();
                let args = Rope {
                    x: x.matrix(),
                    heads: HEADS,
                    head_dim: *head_dim,
                    places: &places,
                    angles: &Angles::new(10_000.0, 2 * half, rows),
                };
                // SAFETY: see above.
                chunks.for_each(|chunk| unsafe { (kernels.rope)(&args, chunk) });
                x.outcome()
            }
            Self::Pool(kind, width) => {
                let mut x = Field::new(rows, *width, || numbers.float());
                let mut out = Field::empty(1, *width);
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
                    // SAFETY: see above; the text has a token.
                    unsafe { (kernels.pool)(&args, text) };
                }
                out.outcome()
            }
            Self::Normalise(width) => {
                let mut x = Field::new(rows, *width, || numbers.float());
                let mut out = Field::empty(rows, *width);
                let args = Normalise {
                    x: x.matrix(),
                    out: out.matrix(),
                    width: *width,
                };
                // SAFETY: see above.
                chunks.for_each(|chunk| unsafe { (kernels.normalise)(&args, chunk) });
                out.outcome()
            }
        }
    }
}
