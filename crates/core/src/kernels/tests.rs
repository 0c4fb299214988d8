//! Compares every instruction set of this machine with the portable kernels, on random shapes and at tile edges.

use super::Kernels;
use super::cases::{AttentionCase, Case, GemmCase, Output, Random, agree};
use super::elementwise::Operation;
use super::gemm::Finish;
use super::norm::{Kind, Residual};
use super::panels::Shape;
use super::pooling;
use crate::simd::math::Activation;

/// Random cases of a test. An interpreter such as Miri is too slow for many.
const ROUNDS: u64 = if cfg!(miri) { 30 } else { 600 };

const ACTIVATIONS: [Activation; 6] = [
    Activation::GeluTanh,
    Activation::GeluErf,
    Activation::Silu,
    Activation::Tanh,
    Activation::Relu,
    Activation::Sigmoid,
];

/// Returns a random size: small, near a multiple of a vector or a tile, or sometimes large.
fn size(random: &mut Random) -> usize {
    match random.below(8) {
        0..4 => 1 + random.below(8),
        4..7 => (8 << random.below(3)) * (1 + random.below(3)) - 1 + random.below(3),
        _ => 1 + random.below(300),
    }
}

fn one_of<T: Copy>(random: &mut Random, choice: &[T]) -> T {
    choice[random.below(choice.len())]
}

fn chance(random: &mut Random) -> bool {
    random.below(2) == 0
}

fn product(random: &mut Random) -> GemmCase {
    let activation = one_of(random, &ACTIVATIONS);
    let (gated, finish) = one_of(
        random,
        &[
            (false, Finish::Keep),
            (false, Finish::Activate(activation)),
            (true, Finish::Gate(activation)),
        ],
    );
    GemmCase {
        shape: Shape {
            out: size(random),
            k: size(random),
            gated,
        },
        bias: chance(random),
        finish,
    }
}

fn attention(random: &mut Random) -> AttentionCase {
    let kv_heads = 1 + random.below(2);
    AttentionCase {
        heads: kv_heads * (1 + random.below(3)),
        kv_heads,
        head_dim: 1 + random.below(40),
        text: 1 + random.below(60),
        causal: chance(random),
        radius: chance(random).then(|| random.below(20)),
        bias: chance(random),
        integers: chance(random),
    }
}

fn case(random: &mut Random) -> Case {
    match random.below(13) {
        0 => Case::Gemm(product(random)),
        1 => Case::Int16(product(random)),
        9 => Case::Int8(product(random)),
        10 => Case::Bfloat16(product(random)),
        11 => Case::QuantiseInt8(size(random)),
        12 => Case::RoundBfloat16(size(random)),
        2 => Case::QuantiseInt16(size(random)),
        3 => Case::Attention(attention(random)),
        4 => Case::Norm {
            kind: one_of(random, &[Kind::Rms, Kind::Layer]),
            group: size(random),
            groups: 1 + random.below(3),
            residual: one_of(random, &[None, Some(Residual::Before), Some(Residual::After)]),
            affine: chance(random),
        },
        5 => {
            let activation = one_of(random, &ACTIVATIONS);
            let operations = [
                Operation::Add,
                Operation::Scale(-0.3),
                Operation::Glu(activation),
                Operation::Activate(activation),
            ];
            Case::Elementwise(one_of(random, &operations), size(random))
        }
        6 => {
            let half = 1 + random.below(40);
            Case::Rope(2 * half)
        }
        7 => Case::Pool(
            one_of(
                random,
                &[
                    pooling::Kind::Mean,
                    pooling::Kind::Cls,
                    pooling::Kind::Last,
                    pooling::Kind::Max,
                ],
            ),
            size(random),
        ),
        _ => Case::Normalise(size(random)),
    }
}

/// Returns a random number of rows: none, one, a few, or more than several tiles.
fn rows(random: &mut Random) -> usize {
    one_of(random, &[0, 1, 2, 5, 6, 7, 11, 12, 13, 24, 25, 40])
}

fn check(case: &Case, seed: u64, rows: usize) {
    let expected = case.run(Kernels::portable(), seed, rows, rows.max(1));
    assert!(!expected.out_of_bounds, "portable: {case:?}, {rows} rows, seed {seed}");
    for kernels in Kernels::all() {
        let found = case.run(kernels, seed, rows, rows.max(1));
        assert!(
            agree(&expected, &found, case.tolerance()),
            "{}: {case:?}, {rows} rows, seed {seed}: {found:?}, not {expected:?}",
            kernels.name
        );
    }
}

#[test]
fn an_emulated_processor_has_its_instruction_sets() {
    // scripts/test_emulated.py names them. A set that was not found would not be tested, and nothing else would fail.
    if let Ok(expected) = std::env::var("EMBERGEM_TEST_INSTRUCTION_SETS") {
        let found: Vec<_> = Kernels::all().iter().map(|kernels| kernels.name).collect();
        assert_eq!(found.join(" "), expected);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_set_of_slower_products_is_not_preferred() {
    let names: Vec<_> = Kernels::all().iter().map(|kernels| kernels.name).collect();
    let place = |name| names.iter().position(|found| *found == name);
    if let (Some(bf16), Some(vnni)) = (place("avx512-bf16"), place("avx512-vnni")) {
        assert_eq!(bf16 < vnni, crate::simd::avx512::is_intel(), "slowest first: {names:?}");
    }
}

#[test]
fn all_instruction_sets_agree_on_random_shapes() {
    for seed in 0..ROUNDS {
        let mut random = Random(seed);
        let (case, rows) = (case(&mut random), rows(&mut random));
        check(&case, seed, rows);
    }
}

#[test]
fn all_instruction_sets_agree_around_every_edge_of_a_tile() {
    for out in [1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65] {
        for k in [1, 2, 3, 4, 5, 31, 33] {
            for (gated, finish) in [(false, Finish::Keep), (true, Finish::Gate(Activation::Silu))] {
                let shape = Shape { out, k, gated };
                let product = GemmCase {
                    shape,
                    bias: out % 2 == 0,
                    finish,
                };
                for rows in [0, 1, 5, 13] {
                    check(&Case::Gemm(product), 7, rows);
                    check(&Case::Int16(product), 7, rows);
                    check(&Case::Int8(product), 7, rows);
                    check(&Case::Bfloat16(product), 7, rows);
                }
            }
        }
    }
}

#[test]
fn int8_products_agree_around_every_edge_of_a_group() {
    for k in [1, 2, 5, 127, 128, 129, 255, 256, 384, 515, 2048] {
        for (out, gated) in [(1, false), (33, false), (40, true)] {
            let product = GemmCase {
                shape: Shape { out, k, gated },
                bias: k % 2 == 0,
                finish: if gated {
                    Finish::Gate(Activation::Silu)
                } else {
                    Finish::Keep
                },
            };
            for rows in [1, 6, 13] {
                check(&Case::Int8(product), 7, rows);
            }
        }
        check(&Case::QuantiseInt8(k), 7, 3);
    }
}

#[test]
fn a_row_has_the_same_bits_however_the_rows_are_divided() {
    let bits = |output: Output| -> Vec<u32> { output.values.iter().map(|value| value.to_bits()).collect() };
    for seed in 1000..1000 + ROUNDS / 3 {
        let mut random = Random(seed);
        let (case, rows) = (case(&mut random), rows(&mut random));
        for kernels in Kernels::all() {
            let whole = bits(case.run(kernels, seed, rows, rows.max(1)));
            for step in [1, 5, 12] {
                let divided = bits(case.run(kernels, seed, rows, step));
                assert!(
                    whole == divided,
                    "{}: {case:?}, {rows} rows, {step} at a time, seed {seed}",
                    kernels.name
                );
            }
        }
    }
}
