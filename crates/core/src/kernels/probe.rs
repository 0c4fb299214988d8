//! The start-up probe: an instruction set that not every test machine has is used only if its results agree with those
//! of the portable kernels on this machine.

use super::Kernels;
use super::cases::{AttentionCase, Case, GemmCase, agree};
use super::elementwise::Operation;
use super::gemm::Finish;
use super::norm::{Kind, Residual};
use super::panels::Shape;
use super::pooling;
use crate::simd::math::Activation;

/// Number of rows: more than two register tiles of every instruction set, and not a multiple of any.
const ROWS: usize = 31;

/// Returns whether the results of `kernels` agree with those of the portable kernels: exactly in integers and in
/// conversions, within rounding in f32. Takes a few milliseconds.
pub fn agrees(kernels: &Kernels) -> bool {
    let run = |case: &Case, kernels| case.run(kernels, 1, ROWS, ROWS);
    cases()
        .iter()
        .all(|case| agree(&run(case, Kernels::portable()), &run(case, kernels), case.tolerance()))
}

/// Returns cases for every kernel, with sizes that have whole vectors and a remainder on every instruction set.
fn cases() -> Vec<Case> {
    let product = |gated, finish| GemmCase {
        shape: Shape { out: 45, k: 77, gated },
        bias: true,
        finish,
    };
    let products = [
        product(false, Finish::Keep),
        product(true, Finish::Gate(Activation::GeluTanh)),
        product(false, Finish::Activate(Activation::GeluErf)),
    ];
    let attention = |causal, radius, bias, integers| {
        Case::Attention(AttentionCase {
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
    let norm = |kind, residual| Case::Norm {
        kind,
        group: 77,
        groups: 2,
        residual,
        affine: true,
    };
    let mut cases: Vec<Case> = products.map(Case::Gemm).into();
    cases.extend(products.map(Case::Int16));
    cases.extend(products.map(Case::Int8));
    cases.extend([100, 270].map(Case::QuantiseInt8));
    cases.extend([128, 300].map(|k| {
        Case::Int8(GemmCase {
            shape: Shape {
                out: 45,
                k,
                gated: false,
            },
            bias: false,
            finish: Finish::Keep,
        })
    }));
    cases.extend(products.map(Case::Bfloat16));
    cases.extend([
        Case::QuantiseInt16(77),
        Case::RoundBfloat16(77),
        attention(false, None, false, false),
        attention(true, None, true, false),
        attention(false, Some(5), false, false),
        attention(true, None, true, true),
        attention(false, Some(5), false, true),
        norm(Kind::Rms, None),
        norm(Kind::Rms, Some(Residual::After)),
        norm(Kind::Layer, Some(Residual::Before)),
        Case::Elementwise(Operation::Add, 77),
        Case::Elementwise(Operation::Scale(0.7), 77),
        Case::Elementwise(Operation::Glu(Activation::Silu), 77),
        Case::Elementwise(Operation::Activate(Activation::Tanh), 77),
        Case::Elementwise(Operation::Activate(Activation::Relu), 77),
        Case::Rope(42),
        Case::Pool(pooling::Kind::Mean, 77),
        Case::Pool(pooling::Kind::Max, 77),
        Case::Normalise(77),
    ]);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{bfloat16, gemm, int16};
    use std::ops::Range;

    #[test]
    fn every_instruction_set_of_this_machine_agrees() {
        for kernels in Kernels::all() {
            assert!(agrees(kernels), "{}", kernels.name);
        }
    }

    #[test]
    fn kernels_with_wrong_results_are_detected() {
        unsafe fn nothing(_: &gemm::Gemm<'_>, _: Range<usize>, _: Range<usize>) {}
        assert!(!agrees(&Kernels {
            gemm: nothing,
            ..*Kernels::portable()
        }));
        // One unit in the last place of one scale: a smaller difference than the tolerance of f32 products.
        unsafe fn nudge(args: &int16::Quantise, rows: Range<usize>) {
            // SAFETY: the case passes operands that cover the rows, row 3 among them, and every machine has the
            // portable kernels.
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
        // One number whose last bit differs.
        unsafe fn nudge_bfloat16(args: &bfloat16::Round, rows: Range<usize>) {
            // SAFETY: the case passes operands that cover the rows, row 3 among them, and every machine has the
            // portable kernels.
            unsafe {
                (Kernels::portable().round_bfloat16)(args, rows);
                *args.out.row(3).cast::<u16>() ^= 1;
            }
        }
        assert!(!agrees(&Kernels {
            round_bfloat16: nudge_bfloat16,
            ..*Kernels::portable()
        }));
        // One product that is off by 1/8000 of the largest: less than the rounding of rows to bfloat16 may change.
        unsafe fn nudge_product(args: &gemm::Gemm<'_, bfloat16::Packed>, rows: Range<usize>, panels: Range<usize>) {
            // SAFETY: the case passes operands that cover the rows, row 3 among them, and every machine has the
            // portable kernels.
            unsafe {
                (Kernels::portable().gemm_bfloat16)(args, rows.clone(), panels);
                let row = |row| std::slice::from_raw_parts(args.out.row(row), args.weight.shape.out);
                let largest = rows.flat_map(row).fold(0f32, |largest, value| largest.max(value.abs()));
                *args.out.row(3) += largest / 8000.0;
            }
        }
        assert!(!agrees(&Kernels {
            gemm_bfloat16: nudge_product,
            ..*Kernels::portable()
        }));
        // One float past the end of a row.
        unsafe fn stray(args: &gemm::Gemm<'_>, rows: Range<usize>, panels: Range<usize>) {
            // SAFETY: the case passes operands that cover the rows, row 7 among them, with guard values after each row,
            // and every machine has the portable kernels.
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
