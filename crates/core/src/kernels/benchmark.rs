//! Speed of the kernels on one thread, as a share of the peak rate of fused multiply-adds of that thread.
//!
//! `cargo test --release -p embergem-core benchmark -- --ignored --nocapture`. `EMBERGEM_BENCHMARK_KERNELS=avx2` chooses
//! another instruction set than the fastest.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "the comment in `benchmark` states the condition for all calls of kernels"
)]

use super::attention::{self, Attention, QueryTile, Span};
use super::gemm::{self, Finish};
use super::int8::quantise::{QuantiseInt8, groups, row_len};
use super::norm::{self, Norm, Residual};
use super::panels::Shape;
use super::{Kernels, Matrix, bfloat16, int8, int16, peak};
use crate::aligned::Aligned;
use crate::error::Result;
use crate::simd::math::Activation;
use std::time::Instant;

/// Rows of every product: about the tokens of a small batch.
const ROWS: usize = 96;

/// Returns the shortest duration of many runs, in seconds: noise only makes a run slower.
fn fastest(mut run: impl FnMut()) -> f64 {
    let one = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..200).map(|_| one(&mut run)).fold(f64::INFINITY, f64::min)
}

fn numbers(count: usize) -> Aligned {
    let mut values = Aligned::zeros(count).unwrap();
    let mut state = 1u32;
    for value in values.iter_mut() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
    values
}

fn matrix(values: &mut [f32], stride: usize) -> Matrix {
    Matrix {
        data: values.as_mut_ptr(),
        stride,
    }
}

fn read(k: usize) -> impl Fn(usize, &mut [f32]) -> Result<()> + Sync {
    let values = numbers(4096);
    move |row, out| {
        (0..k).for_each(|i| out[i] = values[(row * 31 + i) % 4096]);
        Ok(())
    }
}

#[test]
#[ignore = "a measurement, which cannot fail"]
fn benchmark() {
    let kernels = std::env::var("EMBERGEM_BENCHMARK_KERNELS").map_or_else(
        |_| Kernels::best(),
        |name| Kernels::named(&name).expect("this machine has no such instruction set"),
    );
    let rounds = 2000;
    // SAFETY, here and in the functions that this test calls: the operands have the sizes that the arguments say, and
    // `Kernels::best` returned the kernels, so this machine has the instruction set.
    let seconds = fastest(|| unsafe {
        std::hint::black_box((kernels.peak)(rounds));
    });
    let peak = (rounds * peak::operations(kernels.lanes)) as f64 / seconds;
    println!("{}: {:.1} GFLOP/s", kernels.name, peak / 1e9);
    let show = |name: &str, seconds: f64, operations: usize| {
        let share = operations as f64 / seconds / peak;
        println!("{name:40} {:9.1} us  {share:.2}", seconds * 1e6);
    };
    for (k, out, gated) in [
        (768, 1280, false),
        (768, 1152, true),
        (1152, 768, false),
        (768, 768, false),
        (384, 1536, false),
    ] {
        let shape = Shape { out, k, gated };
        let finish = if gated {
            Finish::Gate(Activation::GeluTanh)
        } else {
            Finish::Keep
        };
        let operations = 2 * ROWS * k * shape.rows().unwrap();
        let (mut x, mut y) = (numbers(ROWS * k), numbers(ROWS * out));
        let weight = gemm::Packed::new(shape, kernels.lanes, read(k)).unwrap();
        let args = gemm::Gemm {
            x: matrix(&mut x, k),
            out: matrix(&mut y, out),
            weight: &weight,
            bias: None,
            finish,
        };
        let name = format!("{k} to {out}{}", if gated { " gated" } else { "" });
        show(
            &format!("float32 {name}"),
            fastest(|| unsafe { (kernels.gemm)(&args, 0..ROWS, 0..weight.panels()) }),
            operations,
        );
        let weight = bfloat16::Packed::rounded(shape, (kernels.lanes, kernels.bfloat16_rows), read(k)).unwrap();
        let len = bfloat16::row_len(k, kernels.bfloat16_rows);
        let mut rounded = Aligned::zeros(ROWS * len).unwrap();
        let mut product_rows = matrix(&mut x, k);
        if len > 0 {
            let round = bfloat16::Round {
                x: matrix(&mut x, k),
                k,
                out: matrix(&mut rounded, len),
            };
            show(
                &format!("bfloat16 round {k}"),
                fastest(|| unsafe { (kernels.round_bfloat16)(&round, 0..ROWS) }),
                operations,
            );
            product_rows = round.out;
        }
        let args = gemm::Gemm {
            x: product_rows,
            out: matrix(&mut y, out),
            weight: &weight,
            bias: None,
            finish,
        };
        show(
            &format!("bfloat16 {name}"),
            fastest(|| unsafe { (kernels.gemm_bfloat16)(&args, 0..ROWS, 0..weight.panels()) }),
            operations,
        );
        let weight = int16::Packed::scaled(shape, (kernels.lanes, kernels.int16_rows), read(k)).unwrap();
        let len = int16::row_len(k, kernels.int16_rows);
        let (mut ints, mut scales) = (Aligned::zeros(ROWS * len).unwrap(), Aligned::zeros(ROWS).unwrap());
        let quantise = int16::Quantise {
            x: matrix(&mut x, k),
            k,
            out: matrix(&mut ints, len),
            rows: kernels.int16_rows,
            scales: matrix(&mut scales, 1),
            max_norm: int16::max_row_norm(k),
        };
        show(
            &format!("int16 quantise {k}"),
            fastest(|| unsafe { (kernels.quantise)(&quantise, 0..ROWS) }),
            operations,
        );
        let args = int16::Gemm {
            x: quantise.out,
            scales: quantise.scales,
            out: matrix(&mut y, out),
            weight: &weight,
            bias: None,
            finish,
        };
        show(
            &format!("int16 {name}"),
            fastest(|| unsafe { (kernels.gemm_int16)(&args, 0..ROWS, 0..weight.panels()) }),
            operations,
        );
        let weight = int8::Packed::smoothed(shape, (kernels.lanes, kernels.int8_rows), &[], read(k)).unwrap();
        let len = row_len(k, kernels.int8_rows);
        let (mut ints, mut scales) = (
            Aligned::zeros(ROWS * len).unwrap(),
            Aligned::zeros(ROWS * groups(k)).unwrap(),
        );
        let quantise = QuantiseInt8 {
            x: matrix(&mut x, k),
            k,
            factors: weight.factors(),
            out: matrix(&mut ints, len),
            scales: matrix(&mut scales, groups(k)),
        };
        show(
            &format!("int8 quantise {k}"),
            fastest(|| unsafe { (kernels.quantise_int8)(&quantise, 0..ROWS) }),
            operations,
        );
        let args = int16::Gemm {
            x: quantise.out,
            scales: quantise.scales,
            out: matrix(&mut y, out),
            weight: &weight,
            bias: None,
            finish,
        };
        show(
            &format!("int8 {name}"),
            fastest(|| unsafe { (kernels.gemm_int8)(&args, 0..ROWS, 0..weight.panels()) }),
            operations,
        );
    }
    for (heads, kv_heads, d) in [(3, 1, 256), (12, 12, 64), (12, 12, 32)] {
        attention_rates(kernels, (heads, kv_heads, d), &show);
    }
    let (mut a, mut b, mut c) = (numbers(ROWS * 768), numbers(ROWS * 768), numbers(ROWS * 768));
    let weight = numbers(768);
    for residual in [None, Some((matrix(&mut b, 768), Residual::After))] {
        let args = Norm {
            kind: norm::Kind::Rms,
            eps: 1e-6,
            x: matrix(&mut a, 768),
            out: matrix(&mut c, 768),
            residual,
            group: 768,
            groups: 1,
            weight: Some(&weight),
            bias: None,
        };
        show("norm", fastest(|| unsafe { (kernels.norm)(&args, 0..ROWS) }), 0);
    }
}

/// Measures attention within one text of 257 tokens.
fn attention_rates(kernels: &Kernels, (heads, kv_heads, d): (usize, usize, usize), show: &dyn Fn(&str, f64, usize)) {
    let len = 257;
    let (mut q, mut k) = (numbers(len * heads * d), numbers(len * kv_heads * d));
    let (mut v, mut out) = (numbers(len * kv_heads * d), numbers(len * heads * d));
    for (name, of) in [("", &kernels.attention), (" int16", &kernels.attention_int16)] {
        let mut packed = Aligned::zeros((of.packed_len)(len, kv_heads, d, kernels.panel)).unwrap();
        let mut scratch = Aligned::zeros((of.scratch_len)(len, d, kernels.panel)).unwrap();
        let args = Attention {
            q: matrix(&mut q, heads * d),
            k: matrix(&mut k, kv_heads * d),
            v: matrix(&mut v, kv_heads * d),
            out: matrix(&mut out, heads * d),
            heads,
            kv_heads,
            head_dim: d,
            scale: 1.0 / (d as f32).sqrt(),
            causal: false,
            radius: Some(256),
            bias: None,
            packed: matrix(&mut packed, 0),
        };
        let span = Span {
            start: 0,
            len,
            packed: 0,
        };
        let operations = 4 * len * len * heads * d;
        let name = format!("{name}, {heads} heads of {d}");
        show(
            &format!("attention pack{name}"),
            fastest(|| unsafe { (0..kv_heads).for_each(|head| (of.pack)(&args, span, head)) }),
            operations,
        );
        show(
            &format!("attention{name}"),
            fastest(|| unsafe {
                for head in 0..heads {
                    for first in (0..len).step_by(attention::TILE_QUERIES) {
                        (of.tile)(&args, QueryTile { span, first }, head, &mut scratch);
                    }
                }
            }),
            operations,
        );
    }
}
