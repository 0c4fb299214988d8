//! Matrices of integers with scales, as `embergem compile --dtype int8` and `--dtype int16` store them.
//!
//! Tensor `X` has the integers (`I8` or `I16`), one row an output channel. Tensor `X.scales` has f32 factors: for int8
//! one for every 32 values of a row, for int16 one for each row. A value is its integer times its scale.

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// Width of the integers, which also decides how many values share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegerFormat {
    /// One byte a value; every 32 values of a row share a scale.
    Int8,
    /// Two bytes a value; all values of a row share a scale.
    Int16,
}

impl IntegerFormat {
    /// Returns the bytes of one integer.
    pub fn bytes(self) -> usize {
        match self {
            Self::Int8 => 1,
            Self::Int16 => 2,
        }
    }

    /// Returns the name of the integer type in safetensors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "I8",
            Self::Int16 => "I16",
        }
    }

    /// Returns how many values of a row of `k` share a scale.
    fn group_len(self, k: usize) -> usize {
        match self {
            Self::Int8 => 32,
            Self::Int16 => k.max(1),
        }
    }

    /// Finds the scales of the tensor `name` of shape `shape`; `None` unless there is one for each group.
    pub fn find_scales<'a>(self, file: &SafeTensors<'a>, name: &str, shape: &[usize]) -> Option<TensorView<'a>> {
        let &[rows, k] = shape else { return None };
        let scales = file.tensor(&format!("{name}.scales")).ok()?;
        let fits = scales.dtype() == Dtype::F32 && scales.shape() == [rows, k.div_ceil(self.group_len(k))];
        fits.then_some(scales)
    }

    /// Converts whole rows of `k` values to f32 and writes them to `out`.
    pub fn read(self, k: usize, integers: &[u8], scales: &[u8], out: &mut [f32]) {
        if out.is_empty() {
            return;
        }
        let (group, bytes) = (self.group_len(k), self.bytes());
        let rows = out.chunks_exact_mut(k).zip(integers.chunks_exact(k * bytes));
        let scales = scales.as_chunks::<4>().0.chunks_exact(k.div_ceil(group));
        for ((out, integers), scales) in rows.zip(scales) {
            let groups = out.chunks_mut(group).zip(integers.chunks(group * bytes));
            for ((out, integers), scale) in groups.zip(scales) {
                let scale = f32::from_le_bytes(*scale);
                match self {
                    Self::Int8 => {
                        (out.iter_mut().zip(integers)).for_each(|(out, q)| *out = scale * f32::from(*q as i8))
                    }
                    Self::Int16 => (out.iter_mut().zip(integers.as_chunks::<2>().0))
                        .for_each(|(out, q)| *out = scale * f32::from(i16::from_le_bytes(*q))),
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
        IntegerFormat::Int8.read(33, &integers, &scales, &mut out);
        assert_eq!((out[0], out[31], out[32]), (2.0, 2.0, -30.0));
        assert_eq!((out[33], out[64], out[65]), (1.0, 1.0, -60.0));
        assert_eq!(IntegerFormat::Int8.scale_bytes(33, 66), scales.len());
    }

    #[test]
    fn int16_has_one_scale_for_each_row() {
        let integers: Vec<u8> = [-32_767i16, 1, 300, 7].iter().flat_map(|q| q.to_le_bytes()).collect();
        let scales: Vec<u8> = [0.5f32, -1.0].iter().flat_map(|s| s.to_le_bytes()).collect();
        let mut out = [f32::NAN; 4];
        IntegerFormat::Int16.read(2, &integers, &scales, &mut out);
        assert_eq!(out, [-16_383.5, 0.5, -300.0, -7.0]);
    }

    #[test]
    fn an_empty_matrix_has_no_scales() {
        IntegerFormat::Int16.read(0, &[], &[], &mut []);
        assert_eq!(IntegerFormat::Int8.scale_bytes(0, 0), 0);
    }
}
