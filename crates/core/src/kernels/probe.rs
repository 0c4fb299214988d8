//! The start-up probe: an instruction set that not every test machine has is used only where it agrees with the portable
//! kernels on the machine at hand.

use super::Kernels;
use super::cases::{Attend, Product, Trial, same};
use super::elementwise::Operation;
use super::gemm::Finish;
use super::norm::{Kind, Residual};
use super::panels::Shape;
use super::pooling;
use crate::simd::math::Activation;

/// Rows: more than two register tiles of any set, and not a multiple of any.
const ROWS: usize = 31;

/// Whether `kernels` compute what the portable ones do: integers exactly, floats within rounding. Takes a few
/// milliseconds.
pub fn agrees(kernels: &Kernels) -> bool {
    let run = |trial: &Trial, kernels| trial.run(kernels, 1, ROWS, ROWS);
    trials().iter().all(|trial| {
        same(
            &run(trial, Kernels::portable()),
            &run(trial, kernels),
            trial.tolerance(),
        )
    })
}

/// Every kernel, on sizes that are not multiples of anything, with whole vectors as well as a rest.
fn trials() -> Vec<Trial> {
    let product = |gated, finish| Product {
        shape: Shape { out: 45, k: 77, gated },
        bias: true,
        finish,
    };
    let products = [
        product(false, Finish::Keep),
        product(true, Finish::Gate(Activation::GeluTanh)),
        product(false, Finish::Activate(Activation::GeluErf)),
    ];
    let attend = |causal, radius, bias, integers| {
        Trial::Attend(Attend {
            heads: 4,
            kv_heads: 2,
            head_dim: 21,
            text: 28,
            causal,
            radius,
            bias,
            integers,
        })
    };
    let norm = |kind, residual| Trial::Norm {
        kind,
        group: 77,
        groups: 2,
        residual,
        affine: true,
    };
    let mut trials: Vec<Trial> = products.map(Trial::Product).into();
    trials.extend(products.map(Trial::Int16));
    trials.extend(products.map(Trial::Int8));
    trials.extend(products.map(Trial::Bfloat16));
    trials.extend([
        Trial::QuantiseInt16(77),
        attend(false, None, false, false),
        attend(true, None, true, false),
        attend(false, Some(5), false, false),
        attend(true, None, true, true),
        attend(false, Some(5), false, true),
        norm(Kind::Rms, None),
        norm(Kind::Rms, Some(Residual::After)),
        norm(Kind::Layer, Some(Residual::Before)),
        Trial::Elementwise(Operation::Add, 77),
        Trial::Elementwise(Operation::Mul, 77),
        Trial::Elementwise(Operation::Scale(0.7), 77),
        Trial::Elementwise(Operation::Glu(Activation::Silu), 77),
        Trial::Elementwise(Operation::Activate(Activation::Tanh), 77),
        Trial::Elementwise(Operation::Activate(Activation::Relu), 77),
        Trial::Rope { half: 21, head_dim: 45 },
        Trial::Pool(pooling::Kind::Mean, 77),
        Trial::Pool(pooling::Kind::Max, 77),
        Trial::Normalise(77),
    ]);
    trials
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{gemm, int16};
    use std::ops::Range;

    #[test]
    fn every_set_of_this_machine_agrees() {
        for kernels in Kernels::all() {
            assert!(agrees(kernels), "{}", kernels.name);
        }
    }

    #[test]
    fn kernels_that_compute_something_else_are_found_out() {
        unsafe fn nothing(_: &gemm::Gemm<'_>, _: Range<usize>, _: Range<usize>) {}
        assert!(!agrees(&Kernels {
            gemm: nothing,
            ..*Kernels::portable()
        }));
        // One unit of one row's scale: less than any float product would be seen to differ by.
        unsafe fn nudge(args: &int16::Quantise, rows: Range<usize>) {
            // SAFETY: the trial hands over rows that are there, and portable kernels run everywhere.
            unsafe {
                (Kernels::portable().quantise)(args, rows);
                let scale = args.scales.row(3);
                *scale = (*scale).next_up();
            }
        }
        assert!(!agrees(&Kernels {
            quantise: nudge,
            ..*Kernels::portable()
        }));
        // One float past the end of a row.
        unsafe fn stray(args: &gemm::Gemm<'_>, rows: Range<usize>, panels: Range<usize>) {
            // SAFETY: as above; the trial's fields have places after each row.
            unsafe {
                (Kernels::portable().gemm)(args, rows, panels);
                *args.out.row(7).add(args.weight.shape.out) = 0.0;
            }
        }
        assert!(!agrees(&Kernels {
            gemm: stray,
            ..*Kernels::portable()
        }));
    }
}
