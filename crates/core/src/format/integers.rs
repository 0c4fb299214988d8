//! Matrices of integers with scales, as `embergem compile --dtype int8` and `int16` store them: the integers of tensor
//! `X` (`I8` or `I16`, a row a channel), and in `X.scales` what a unit is worth, for every 32 of a row or for all of it.

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// How wide the integers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaled {
    /// A byte each, every 32 along a row with a scale of their own.
    Int8,
    /// Two bytes each, a row with one scale.
    Int16,
}

impl Scaled {
    /// Bytes of an integer.
    pub fn bytes(self) -> usize {
        match self {
            Self::Int8 => 1,
            Self::Int16 => 2,
        }
    }

    /// Its name in safetensors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "I8",
            Self::Int16 => "I16",
        }
    }

    /// How many of a row of `k` share a scale.
    fn group(self, k: usize) -> usize {
        match self {
            Self::Int8 => 32,
            Self::Int16 => k.max(1),
        }
    }

    /// Finds the scales of the tensor `name` of `shape`; they must be one for each group.
    pub fn scales<'a>(self, file: &SafeTensors<'a>, name: &str, shape: &[usize]) -> Option<TensorView<'a>> {
        let &[rows, k] = shape else { return None };
        let scales = file.tensor(&format!("{name}.scales")).ok()?;
        let fits = scales.dtype() == Dtype::F32 && scales.shape() == [rows, k.div_ceil(self.group(k))];
        fits.then_some(scales)
    }

    /// Writes whole rows of `k` values to `out`: every integer times its scale.
    pub fn read(self, k: usize, integers: &[u8], scales: &[u8], out: &mut [f32]) {
        if out.is_empty() {
            return;
        }
        let (group, bytes) = (self.group(k), self.bytes());
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

    /// Bytes of the scales of `count` values in whole rows of `k`.
    pub fn bytes_of_scales(self, k: usize, count: usize) -> usize {
        count / k.max(1) * k.div_ceil(self.group(k)) * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_no_group_divides() {
        let integers: Vec<u8> = (0..66).map(|i| if i % 33 == 32 { -3i8 as u8 } else { 2 }).collect();
        let scales: Vec<u8> = [1.0f32, 10.0, 0.5, 20.0].iter().flat_map(|s| s.to_le_bytes()).collect();
        let mut out = [f32::NAN; 66];
        Scaled::Int8.read(33, &integers, &scales, &mut out);
        assert_eq!((out[0], out[31], out[32]), (2.0, 2.0, -30.0));
        assert_eq!((out[33], out[64], out[65]), (1.0, 1.0, -60.0));
        assert_eq!(Scaled::Int8.bytes_of_scales(33, 66), scales.len());
    }

    #[test]
    fn a_scale_a_row() {
        let integers: Vec<u8> = [-32_767i16, 1, 300, 7].iter().flat_map(|q| q.to_le_bytes()).collect();
        let scales: Vec<u8> = [0.5f32, -1.0].iter().flat_map(|s| s.to_le_bytes()).collect();
        let mut out = [f32::NAN; 4];
        Scaled::Int16.read(2, &integers, &scales, &mut out);
        assert_eq!(out, [-16_383.5, 0.5, -300.0, -7.0]);
    }

    #[test]
    fn nothing_at_all() {
        Scaled::Int16.read(0, &[], &[], &mut []);
        assert_eq!(Scaled::Int8.bytes_of_scales(0, 0), 0);
    }
}
