//! The factors of smoothing: powers of 2^¼, as both sides of an int8 product are multiplied by them.

/// Largest exponent of a channel, and the negated least one: factors from 1/32 to 32.
pub const MAX_EXPONENT: i8 = 20;

/// 2^(-i/4) for i from 0 to 3, rounded to bfloat16.
const FRACTIONS: [f32; 4] = [1.0, 0.839_843_75, 0.707_031_25, 0.593_75];

/// Returns the factor of a row's element: 2^(-exponent/4) in the precision of bfloat16.
pub fn row_factor(exponent: i8) -> f32 {
    let (whole, fraction) = (exponent.div_euclid(4), exponent.rem_euclid(4));
    let power = f32::from_bits((127 - i32::from(whole)).cast_unsigned() << 23);
    FRACTIONS[usize::from(fraction.unsigned_abs())] * power // exact: the second factor is a power of two
}

/// Returns the factor of a channel of the weight, which undoes [`row_factor`].
pub fn channel_factor(exponent: i8) -> f32 {
    1.0 / row_factor(exponent)
}

/// Returns the exponent whose [`row_factor`] has these bits in bfloat16; 0 if none has.
pub fn exponent_of(bfloat16: u16) -> i8 {
    let has_bits = |exponent: &i8| row_factor(*exponent).to_bits() >> 16 == u32::from(bfloat16);
    (-MAX_EXPONENT..=MAX_EXPONENT).find(has_bits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_the_nearest_bfloat16() {
        for exponent in -MAX_EXPONENT..=MAX_EXPONENT {
            let (found, exact) = (row_factor(exponent), (-f64::from(exponent) / 4.0).exp2());
            assert_eq!(found.to_bits() & 0xffff, 0, "{exponent}: {found} is no bfloat16");
            assert!(
                (f64::from(found) / exact - 1.0).abs() <= 1.0 / 512.0,
                "{exponent}: {found}"
            );
            assert!((found * channel_factor(exponent) - 1.0).abs() <= f32::EPSILON);
            assert_eq!(exponent_of((found.to_bits() >> 16) as u16), exponent);
        }
        assert_eq!(row_factor(8), 0.25);
        assert_eq!(exponent_of(0), 0);
    }
}
