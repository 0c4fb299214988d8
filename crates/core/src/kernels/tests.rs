//! Every instruction set of this machine against the portable one, over shapes drawn at random and the odd ones.

use super::Kernels;
use super::cases::{Attend, Numbers, Outcome, Product, Trial, same};
use super::elementwise::Operation;
use super::gemm::Finish;
use super::norm::{Kind, Residual};
use super::panels::Shape;
use super::pooling;
use crate::simd::math::Activation;

/// Trials of a test; an interpreter such as Miri manages few.
const ROUNDS: u64 = if cfg!(miri) { 30 } else { 600 };

const ACTIVATIONS: [Activation; 6] = [
    Activation::GeluTanh,
    Activation::GeluErf,
    Activation::Silu,
    Activation::Tanh,
    Activation::Relu,
    Activation::Sigmoid,
];

/// A size: small ones, those around multiples of a vector or a tile, and now and then a large one.
fn size(numbers: &mut Numbers) -> usize {
    match numbers.below(8) {
        0..4 => 1 + numbers.below(8),
        4..7 => (8 << numbers.below(3)) * (1 + numbers.below(3)) - 1 + numbers.below(3),
        _ => 1 + numbers.below(300),
    }
}

fn one_of<T: Copy>(numbers: &mut Numbers, choice: &[T]) -> T {
    choice[numbers.below(choice.len())]
}

fn chance(numbers: &mut Numbers) -> bool {
    numbers.below(2) == 0
}

fn product(numbers: &mut Numbers) -> Product {
    let activation = one_of(numbers, &ACTIVATIONS);
    let (gated, finish) = one_of(
        numbers,
        &[
            (false, Finish::Keep),
            (false, Finish::Activate(activation)),
            (true, Finish::Gate(activation)),
        ],
    );
    Product {
        shape: Shape {
            out: size(numbers),
            k: size(numbers),
            gated,
        },
        bias: chance(numbers),
        finish,
    }
}

fn attend(numbers: &mut Numbers) -> Attend {
    let kv_heads = 1 + numbers.below(2);
    Attend {
        heads: kv_heads * (1 + numbers.below(3)),
        kv_heads,
        head_dim: 1 + numbers.below(40),
        text: 1 + numbers.below(60),
        causal: chance(numbers),
        radius: chance(numbers).then(|| numbers.below(20)),
        bias: chance(numbers),
        integers: chance(numbers),
    }
}

fn trial(numbers: &mut Numbers) -> Trial {
    match numbers.below(11) {
        0 => Trial::Product(product(numbers)),
        1 => Trial::Int16(product(numbers)),
        9 => Trial::Int8(product(numbers)),
        10 => Trial::Bfloat16(product(numbers)),
        2 => Trial::QuantiseInt16(size(numbers)),
        3 => Trial::Attend(attend(numbers)),
        4 => Trial::Norm {
            kind: one_of(numbers, &[Kind::Rms, Kind::Layer]),
            group: size(numbers),
            groups: 1 + numbers.below(3),
            residual: one_of(numbers, &[None, Some(Residual::Before), Some(Residual::After)]),
            affine: chance(numbers),
        },
        5 => {
            let activation = one_of(numbers, &ACTIVATIONS);
            let operations = [
                Operation::Add,
                Operation::Mul,
                Operation::Scale(-0.3),
                Operation::Glu(activation),
                Operation::Activate(activation),
            ];
            Trial::Elementwise(one_of(numbers, &operations), size(numbers))
        }
        6 => {
            let half = 1 + numbers.below(40);
            Trial::Rope {
                half,
                head_dim: 2 * half + numbers.below(5),
            }
        }
        7 => Trial::Pool(
            one_of(
                numbers,
                &[
                    pooling::Kind::Mean,
                    pooling::Kind::Cls,
                    pooling::Kind::Last,
                    pooling::Kind::Max,
                ],
            ),
            size(numbers),
        ),
        _ => Trial::Normalise(size(numbers)),
    }
}

/// Rows: none, one, a few, and more than several tiles.
fn rows(numbers: &mut Numbers) -> usize {
    one_of(numbers, &[0, 1, 2, 5, 6, 7, 11, 12, 13, 24, 25, 40])
}

fn check(trial: &Trial, seed: u64, rows: usize) {
    let expected = trial.run(Kernels::portable(), seed, rows, rows.max(1));
    assert!(!expected.stray, "portable: {trial:?}, {rows} rows, seed {seed}");
    for kernels in Kernels::all() {
        let found = trial.run(kernels, seed, rows, rows.max(1));
        assert!(
            same(&expected, &found, trial.tolerance()),
            "{}: {trial:?}, {rows} rows, seed {seed}: {found:?}, not {expected:?}",
            kernels.name
        );
    }
}

#[test]
fn all_sets_agree_on_any_shape() {
    for seed in 0..ROUNDS {
        let mut numbers = Numbers(seed);
        let (trial, rows) = (trial(&mut numbers), rows(&mut numbers));
        check(&trial, seed, rows);
    }
}

#[test]
fn all_sets_agree_around_every_edge_of_a_product() {
    for out in [1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65] {
        for k in [1, 2, 3, 4, 5, 31, 33] {
            for (gated, finish) in [(false, Finish::Keep), (true, Finish::Gate(Activation::Silu))] {
                let shape = Shape { out, k, gated };
                let product = Product {
                    shape,
                    bias: out % 2 == 0,
                    finish,
                };
                for rows in [0, 1, 5, 13] {
                    check(&Trial::Product(product), 7, rows);
                    check(&Trial::Int16(product), 7, rows);
                    check(&Trial::Int8(product), 7, rows);
                    check(&Trial::Bfloat16(product), 7, rows);
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_however_the_rows_are_divided() {
    let bits = |outcome: Outcome| -> Vec<u32> { outcome.values.iter().map(|value| value.to_bits()).collect() };
    for seed in 1000..1000 + ROUNDS / 3 {
        let mut numbers = Numbers(seed);
        let (trial, rows) = (trial(&mut numbers), rows(&mut numbers));
        for kernels in Kernels::all() {
            let whole = bits(trial.run(kernels, seed, rows, rows.max(1)));
            for step in [1, 5, 12] {
                let divided = bits(trial.run(kernels, seed, rows, step));
                assert!(
                    whole == divided,
                    "{}: {trial:?}, {rows} rows, {step} at a time, seed {seed}",
                    kernels.name
                );
            }
        }
    }
}
