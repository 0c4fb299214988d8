//! The start-up probe: an instruction set that not every test machine has is used only where it agrees with the portable
//! kernels on the machine at hand.

use super::gemm::{self, Finish, Shape};
use super::int16;
use super::{Kernels, Matrix};
use crate::simd::math::Activation;

/// Largest difference that is taken for rounding, as a share of the largest value.
const TOLERANCE: f32 = 1e-5;

/// Rows, inputs and outputs: none a multiple of anything, and more rows than any register tile has.
const SIZES: (usize, usize, usize) = (19, 77, 45);

/// Whether `kernels` compute what the portable ones do.
pub fn agrees(kernels: &Kernels) -> bool {
    let portable = Kernels::portable();
    let same = |a: Vec<f32>, b: Vec<f32>| {
        let largest = a.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= TOLERANCE * largest)
    };
    same(floats(portable), floats(kernels)) && same(integers(portable), integers(kernels))
}

/// Numbers between -1 and 1 without a pattern.
fn numbers(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn matrix(values: &mut [f32], stride: usize) -> Matrix {
    Matrix {
        data: values.as_mut_ptr(),
        stride,
    }
}

fn weight() -> (Shape, Vec<f32>) {
    let (_, k, out) = SIZES;
    let shape = Shape { out, k, gated: true };
    (shape, numbers(2 * out * k))
}

/// A gated product.
fn floats(kernels: &Kernels) -> Vec<f32> {
    let (rows, k, out) = SIZES;
    let (shape, values) = weight();
    let read = |row: usize, line: &mut [f32]| -> Result<(), std::convert::Infallible> {
        line.copy_from_slice(&values[row * k..(row + 1) * k]);
        Ok(())
    };
    let Ok(weight) = gemm::Packed::new(shape, kernels.lanes, read);
    let (mut x, mut result) = (numbers(rows * k), vec![0.0; rows * out]);
    let args = gemm::Gemm {
        x: matrix(&mut x, k),
        out: matrix(&mut result, out),
        weight: &weight,
        bias: None,
        finish: Finish::Gate(Activation::GeluTanh),
    };
    // SAFETY: the matrices have the sizes that the arguments say; the caller chose kernels that the machine can run.
    unsafe { (kernels.gemm)(&args, 0..rows, 0..weight.panels()) };
    result
}

/// The same product of integers.
fn integers(kernels: &Kernels) -> Vec<f32> {
    let (rows, k, out) = SIZES;
    let (shape, values) = weight();
    let read = |row: usize, line: &mut [f32]| -> Result<(), std::convert::Infallible> {
        line.copy_from_slice(&values[row * k..(row + 1) * k]);
        Ok(())
    };
    let Ok(weight) = int16::Packed::new(shape, kernels.lanes, read);
    let pairs = int16::pairs(k);
    let (mut x, mut ints) = (numbers(rows * k), vec![0.0; rows * pairs]);
    let (mut scales, mut result) = (vec![0.0; rows], vec![0.0; rows * out]);
    let quantise = int16::Quantise {
        x: matrix(&mut x, k),
        k,
        out: matrix(&mut ints, pairs),
        scales: matrix(&mut scales, 1),
    };
    let args = int16::Gemm {
        x: quantise.out,
        scales: quantise.scales,
        out: matrix(&mut result, out),
        weight: &weight,
        bias: None,
        finish: Finish::Gate(Activation::GeluTanh),
    };
    // SAFETY: as above.
    unsafe {
        (kernels.quantise)(&quantise, 0..rows);
        (kernels.gemm_int16)(&args, 0..rows, 0..weight.panels());
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_compute_something_else_are_found_out() {
        assert!(agrees(Kernels::best()));
        unsafe fn nothing(_: &gemm::Gemm<'_>, _: std::ops::Range<usize>, _: std::ops::Range<usize>) {}
        let broken = Kernels {
            gemm: nothing,
            ..*Kernels::portable()
        };
        assert!(!agrees(&broken));
    }
}
