//! Elementary functions on vectors. They are exact to a few ulp, have no branches, and return NaN for NaN.

use super::Simd;

/// Activation functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x · Φ(x), where Φ is the normal distribution function, by the tanh approximation.
    GeluTanh,
    /// x · Φ(x), where Φ is the normal distribution function, by the error function.
    GeluErf,
    /// x · sigmoid(x)
    Silu,
    /// Hyperbolic tangent.
    Tanh,
    /// max(x, 0)
    Relu,
    /// 1 / (1 + e^-x)
    Sigmoid,
}

/// Number of vectors that a function processes at the same time. Each vector is a long chain of dependent operations,
/// and a core is idle during their latency unless it has other chains.
pub const INTERLEAVED: usize = 4;

impl Activation {
    /// Applies the activation to every lane.
    #[inline(always)]
    pub fn apply<V: Simd>(self, x: V) -> V {
        let [y] = self.apply_array([x]);
        y
    }

    /// Applies the activation to every lane of all vectors.
    #[inline(always)]
    pub fn apply_all<V: Simd>(self, values: &mut [V]) {
        let (interleaved, rest) = values.as_chunks_mut::<INTERLEAVED>();
        for values in interleaved {
            *values = self.apply_array(*values);
        }
        for value in rest {
            *value = self.apply(*value);
        }
    }

    #[inline(always)]
    fn apply_array<V: Simd, const N: usize>(self, mut x: [V; N]) -> [V; N] {
        match self {
            Self::GeluTanh => gelu_tanh(x),
            Self::GeluErf => {
                for x in &mut x {
                    *x = gelu_erf(*x);
                }
                x
            }
            Self::Silu => {
                let gate = sigmoid(x);
                for (x, gate) in x.iter_mut().zip(gate) {
                    *x = x.mul(gate);
                }
                x
            }
            Self::Tanh => tanh(x),
            Self::Relu => {
                for x in &mut x {
                    *x = V::splat(0.0).max(*x);
                }
                x
            }
            Self::Sigmoid => sigmoid(x),
        }
    }
}

/// Returns e^x. Below -87.3 the result is the smallest normal number, above 87 about 6e37.
///
/// Source: reduction to |r| <= ln 2 / 2 and the polynomial of expf in Cephes (S. Moshier).
#[inline(always)]
pub fn exp<V: Simd, const N: usize>(x: [V; N]) -> [V; N] {
    let (mut n, mut r, mut p) = (x, x, x);
    for i in 0..N {
        let x = V::splat(87.0).min(x[i]);
        let x = V::splat(-87.336_54).max(x);
        n[i] = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
        r[i] = n[i].fma(V::splat(-0.693_359_4), x);
        r[i] = n[i].fma(V::splat(2.121_944_4e-4), r[i]);
        p[i] = V::splat(1.987_569_1e-4);
    }
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        for i in 0..N {
            p[i] = p[i].fma(r[i], V::splat(c));
        }
    }
    for i in 0..N {
        p[i] = p[i].fma(r[i].mul(r[i]), r[i]).add(V::splat(1.0)).times_exp2(n[i]);
    }
    p
}

/// Returns 2^x for x <= 0, within one ulp and exact at 0. Below -126 the result is the smallest normal number.
///
/// Reduction to |r| <= 1/2, which is exact, and 1 + r q(r) with the minimax polynomial q of degree 5 (relative error
/// 2e-9, by Lawson's iteration over least squares).
#[inline(always)]
pub fn exp2_negative<V: Simd, const N: usize>(x: [V; N]) -> [V; N] {
    let (mut n, mut r, mut p) = (x, x, x);
    for i in 0..N {
        let x = V::splat(-126.0).max(x[i]);
        n[i] = x.round();
        r[i] = x.sub(n[i]);
        p[i] = V::splat(1.535_336_2e-4);
    }
    for c in [
        1.339_887_5e-3,
        9.618_437e-3,
        5.550_332_4e-2,
        0.240_226_48,
        std::f32::consts::LN_2,
        1.0,
    ] {
        for i in 0..N {
            p[i] = p[i].fma(r[i], V::splat(c));
        }
    }
    for i in 0..N {
        p[i] = p[i].times_exp2(n[i]);
    }
    p
}

/// Returns 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid<V: Simd, const N: usize>(mut x: [V; N]) -> [V; N] {
    let one = V::splat(1.0);
    for x in &mut x {
        *x = V::splat(0.0).sub(*x);
    }
    let mut y = exp(x);
    for y in &mut y {
        *y = one.div(one.add(*y));
    }
    y
}

/// Returns tanh(x) as 1 - 2 / (e^2x + 1).
#[inline(always)]
pub fn tanh<V: Simd, const N: usize>(mut x: [V; N]) -> [V; N] {
    let one = V::splat(1.0);
    for x in &mut x {
        *x = x.add(*x);
    }
    let mut y = exp(x);
    for y in &mut y {
        *y = one.sub(V::splat(2.0).div(y.add(one)));
    }
    y
}

/// Returns 0.5 x (1 + tanh u) with u = √(2/π) (x + 0.044715 x³), as x · sigmoid(2u).
#[inline(always)]
pub fn gelu_tanh<V: Simd, const N: usize>(mut x: [V; N]) -> [V; N] {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769_2;
    let mut u = x;
    for u in &mut u {
        let cubic = u.mul(*u).fma(
            V::splat(0.044_715 * TWICE_SQRT_2_OVER_PI),
            V::splat(TWICE_SQRT_2_OVER_PI),
        );
        *u = u.mul(cubic);
    }
    for (x, gate) in x.iter_mut().zip(sigmoid(u)) {
        *x = x.mul(gate);
    }
    x
}

/// Returns 0.5 x (1 + erf(x / √2)).
#[inline(always)]
pub fn gelu_erf<V: Simd>(x: V) -> V {
    let half = x.mul(V::splat(0.5));
    half.fma(erf(x.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2))), half)
}

/// Returns the error function, as the ratio of an odd and an even polynomial on [-4, 4]. Outside, it is ±1 in f32.
///
/// Source of the coefficients: the rational minimax approximation of Eigen and XLA.
#[inline(always)]
pub fn erf<V: Simd>(x: V) -> V {
    let x = V::splat(4.0).min(x);
    let x = V::splat(-4.0).max(x);
    let y = x.mul(x);
    let mut p = V::splat(-2.726_142_3e-10);
    for c in [
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ] {
        p = p.fma(y, V::splat(c));
    }
    let mut q = V::splat(-1.456_607_2e-5);
    for c in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2] {
        q = q.fma(y, V::splat(c));
    }
    x.mul(p).div(q)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::portable::Portable;

    fn at(f: impl Fn(Portable) -> Portable, x: f32) -> f32 {
        let mut lanes = [0.0; 8];
        // SAFETY: the array has eight values, as many as the vector has lanes.
        unsafe { f(Portable::splat(x)).store(lanes.as_mut_ptr()) };
        lanes[3]
    }

    fn one(f: impl Fn([Portable; 1]) -> [Portable; 1]) -> impl Fn(Portable) -> Portable {
        move |x| {
            let [y] = f([x]);
            y
        }
    }

    #[test]
    fn the_largest_weight_of_a_softmax_is_one() {
        assert_eq!(at(one(exp2_negative), 0.0), 1.0);
        assert_eq!(at(one(exp2_negative), -1e30), f32::MIN_POSITIVE);
        assert!(at(one(exp2_negative), f32::NAN).is_nan());
    }

    /// Returns erf by its Taylor series in f64, exact to 1e-12 for |x| <= 4.
    fn erf_series(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn elementary_functions_are_exact_to_a_few_ulp() {
        for i in -4000..=4000 {
            let x = i as f32 * 0.01;
            let d = f64::from(x);
            assert!((f64::from(at(one(exp), x)) / d.exp() - 1.0).abs() < 3e-7, "exp {x}");
            if (-87.0..=0.0).contains(&d) {
                assert!(
                    (f64::from(at(one(exp2_negative), x)) / d.exp2() - 1.0).abs() < 1.2e-7,
                    "exp2 {x}"
                );
            }
            assert!((f64::from(at(one(tanh), x)) - d.tanh()).abs() < 3e-7, "tanh {x}");
            assert!(
                (f64::from(at(one(sigmoid), x)) - 1.0 / (1.0 + (-d).exp())).abs() < 2e-7,
                "sigmoid {x}"
            );
            let u = (2.0 / std::f64::consts::PI).sqrt() * (d + 0.044_715 * d * d * d);
            assert!((f64::from(at(one(gelu_tanh), x)) - 0.5 * d * (1.0 + u.tanh())).abs() < 4e-7 * d.abs().max(1.0));
            if d.abs() < 4.0 {
                assert!((f64::from(at(erf, x)) - erf_series(d)).abs() < 5e-7, "erf {x}");
            }
        }
    }

    #[test]
    fn nan_passes_through() {
        let all = [
            Activation::GeluTanh,
            Activation::GeluErf,
            Activation::Silu,
            Activation::Tanh,
            Activation::Sigmoid,
        ];
        for activation in all.into_iter().chain([Activation::Relu]) {
            assert!(at(|x| activation.apply(x), f32::NAN).is_nan(), "{activation:?}");
        }
    }
}
