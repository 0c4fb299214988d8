//! Matrices of integers with scales, as `embergem compile --dtype int8` and `--dtype int16` store them.
//!
//! Tensor `X` has the integers (`I8` or `I16`), one row an output channel. Tensor `X.scales` has f32 factors: for int8
//! one for every 32 values of a row, for int16 one for each row. A value is its integer times its scale.
//!
//! A matrix of int8 products is stored as `kernels/int8.rs` multiplies it: tensor `X.exponents` (`I8`) has one exponent
//! for each column, and the integers and their scales are those of groups of [`INT8_GROUP`] values that were multiplied
//! with the factors of these exponents and a Hadamard matrix.

use crate::hadamard::hadamard;
use crate::simd::tile::INT8_GROUP;
use crate::smoothing_factors::{MAX_EXPONENT, row_factor};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// Width of the integers, and what their groups are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegerFormat {
    /// One byte a value; every 32 values of a row share a scale.
    Int8,
    /// Two bytes a value; all values of a row share a scale.
    Int16,
    /// One byte a value; every [`INT8_GROUP`] values of a row are transformed together and share a scale. Rows are whole
    /// groups.
    TransformedInt8,
}

/// Where the parts of a matrix of integers are in its file.
pub struct Parts<'a> {
    /// How they are read.
    pub format: IntegerFormat,
    /// The scales.
    pub scales: TensorView<'a>,
    /// The exponents, for [`IntegerFormat::TransformedInt8`].
    pub exponents: Option<TensorView<'a>>,
}

impl IntegerFormat {
    /// Returns the bytes of one integer.
    pub fn bytes(self) -> usize {
        match self {
            Self::Int8 | Self::TransformedInt8 => 1,
            Self::Int16 => 2,
        }
    }

    /// Returns the name of the integer type in safetensors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 | Self::TransformedInt8 => "I8",
            Self::Int16 => "I16",
        }
    }

    /// Returns how many values of a row of `k` share a scale.
    fn group_len(self, k: usize) -> usize {
        match self {
            Self::Int8 => 32,
            Self::Int16 => k.max(1),
            Self::TransformedInt8 => INT8_GROUP,
        }
    }

    /// Finds the parts of the tensor `name`, whose integers have the type `dtype` and the shape `shape`.
    ///
    /// # Errors
    /// What is wrong with the scales or the exponents, for a message.
    pub fn find<'a>(
        file: &SafeTensors<'a>,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
    ) -> Result<Parts<'a>, &'static str> {
        let exponents = file.tensor(&format!("{name}.exponents")).ok();
        let format = match (dtype, &exponents) {
            (Dtype::I16, _) => Self::Int16,
            (_, Some(_)) => Self::TransformedInt8,
            _ => Self::Int8,
        };
        let exponents = exponents.filter(|_| format == Self::TransformedInt8);
        let no_scales = "without a tensor of matching scales";
        let &[rows, k] = shape else {
            return Err(no_scales);
        };
        if let Some(exponents) = &exponents {
            let fits = exponents.dtype() == Dtype::I8 && exponents.shape() == [k] && k.is_multiple_of(INT8_GROUP);
            let small = |byte: &u8| byte.cast_signed().unsigned_abs() <= MAX_EXPONENT.unsigned_abs();
            if !fits || !exponents.data().iter().all(small) {
                return Err("with exponents that do not match it, or are not from -20 to 20");
            }
        }
        let scales = file.tensor(&format!("{name}.scales")).map_err(|_| no_scales)?;
        if scales.dtype() != Dtype::F32 || scales.shape() != [rows, k.div_ceil(format.group_len(k))] {
            return Err(no_scales);
        }
        Ok(Parts {
            format,
            scales,
            exponents,
        })
    }

    /// Converts whole rows of `k` values to f32 and writes them to `out`. `exponents` are those of the columns.
    pub fn read(self, k: usize, (integers, scales, exponents): (&[u8], &[u8], &[u8]), out: &mut [f32]) {
        if out.is_empty() {
            return;
        }
        let group = self.group_len(k);
        let group_bytes = group * self.bytes();
        let rows = out.chunks_exact_mut(k).zip(integers.chunks_exact(k * self.bytes()));
        let scales = scales.as_chunks::<4>().0.chunks_exact(k.div_ceil(group));
        for ((out, integers), scales) in rows.zip(scales) {
            let groups = out.chunks_mut(group).zip(integers.chunks(group_bytes));
            for (number, ((out, integers), scale)) in groups.zip(scales).enumerate() {
                let scale = f32::from_le_bytes(*scale);
                match self {
                    Self::Int8 => {
                        (out.iter_mut().zip(integers)).for_each(|(out, q)| *out = scale * f32::from(*q as i8))
                    }
                    Self::Int16 => (out.iter_mut().zip(integers.as_chunks::<2>().0))
                        .for_each(|(out, q)| *out = scale * f32::from(i16::from_le_bytes(*q))),
                    Self::TransformedInt8 => {
                        let mut values = [0.0; INT8_GROUP];
                        (values.iter_mut().zip(integers)).for_each(|(value, q)| *value = f32::from(*q as i8));
                        hadamard(&mut values); // exact: sums of at most 128 · 128
                        let exponents = &exponents[number * INT8_GROUP..];
                        for ((out, value), exponent) in out.iter_mut().zip(values).zip(exponents) {
                            *out = scale * value * row_factor(exponent.cast_signed());
                        }
                    }
                }
            }
        }
    }

    /// Returns the bytes of the scales of `count` values in whole rows of `k`.
    pub fn scale_bytes(self, k: usize, count: usize) -> usize {
        count / k.max(1) * k.div_ceil(self.group_len(k)) * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_group_of_a_row_may_be_shorter() {
        let integers: Vec<u8> = (0..66).map(|i| if i % 33 == 32 { -3i8 as u8 } else { 2 }).collect();
        let scales: Vec<u8> = [1.0f32, 10.0, 0.5, 20.0].iter().flat_map(|s| s.to_le_bytes()).collect();
        let mut out = [f32::NAN; 66];
        IntegerFormat::Int8.read(33, (&integers, &scales, &[]), &mut out);
        assert_eq!((out[0], out[31], out[32]), (2.0, 2.0, -30.0));
        assert_eq!((out[33], out[64], out[65]), (1.0, 1.0, -60.0));
        assert_eq!(IntegerFormat::Int8.scale_bytes(33, 66), scales.len());
    }

    #[test]
    fn int16_has_one_scale_for_each_row() {
        let integers: Vec<u8> = [-32_767i16, 1, 300, 7].iter().flat_map(|q| q.to_le_bytes()).collect();
        let scales: Vec<u8> = [0.5f32, -1.0].iter().flat_map(|s| s.to_le_bytes()).collect();
        let mut out = [f32::NAN; 4];
        IntegerFormat::Int16.read(2, (&integers, &scales, &[]), &mut out);
        assert_eq!(out, [-16_383.5, 0.5, -300.0, -7.0]);
    }

    #[test]
    fn an_empty_matrix_has_no_scales() {
        IntegerFormat::Int16.read(0, (&[], &[], &[]), &mut []);
        assert_eq!(IntegerFormat::Int8.scale_bytes(0, 0), 0);
    }

    #[test]
    fn transformed_rows_are_multiplied_back() {
        // A unit is transformed into ones and back: integers of 1 stand for a first value of 128 times the scale.
        let k = 2 * INT8_GROUP;
        let mut integers = vec![1u8; k];
        integers[INT8_GROUP..].fill(0);
        integers[INT8_GROUP] = 64;
        let mut exponents = vec![0u8; k];
        exponents[0] = (-12i8).cast_unsigned();
        exponents[k - 1] = 20;
        let scales: Vec<u8> = [0.5f32, 2.0].iter().flat_map(|s| s.to_le_bytes()).collect();
        let mut out = vec![f32::NAN; k];
        IntegerFormat::TransformedInt8.read(k, (&integers, &scales, &exponents), &mut out);
        assert_eq!((out[0], out[1], out[127]), (8.0 * 64.0, 0.0, 0.0));
        assert_eq!((out[128], out[k - 1]), (128.0, 128.0 / 32.0));
        assert_eq!(IntegerFormat::TransformedInt8.scale_bytes(k, k), scales.len());
    }
}
