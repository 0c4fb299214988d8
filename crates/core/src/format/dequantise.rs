//! Conversion of GGUF's quantised block formats to f32.
//!
//! Each block has its own scale, and a row is a whole number of blocks. Each product and each sum is rounded
//! separately, in the order in which ggml's specification of the format writes them, so that the values equal those of
//! the published reader (the Python package `gguf`) to the bit.

use super::half::half_to_f32;

/// A quantised block format of GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFormat {
    /// 32 values of 4 bits minus 8, times a scale.
    Q4_0,
    /// 32 values of 5 bits minus 16, times a scale.
    Q5_0,
    /// 32 values of 5 bits times a scale, plus a minimum.
    Q5_1,
    /// 32 values of 8 bits, times a scale.
    Q8_0,
    /// 256 values of 4 bits in eight groups of 32. Each group has a scale and a minimum of 6 bits.
    Q4K,
    /// Like [`BlockFormat::Q4K`], with values of 5 bits.
    Q5K,
    /// 256 values of 6 bits minus 32 in sixteen groups of 16. Each group has a scale of 8 bits.
    Q6K,
}

impl BlockFormat {
    /// Returns the values of one block.
    pub fn values(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Returns the bytes of one block.
    pub fn bytes(self) -> usize {
        match self {
            Self::Q4_0 => 2 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 2 + 2 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q4K => 2 + 2 + 12 + 128,
            Self::Q5K => 2 + 2 + 12 + 32 + 128,
            Self::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// Returns the name in GGUF.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "Q4_0",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Converts whole blocks to f32.
    pub fn read(self, bytes: &[u8], out: &mut [f32]) {
        let blocks = bytes
            .chunks_exact(self.bytes())
            .zip(out.chunks_exact_mut(self.values()));
        for (block, out) in blocks {
            match self {
                Self::Q4_0 => scaled_block(half_at(block, 0), -8.0, 0.0, |i| nibble(&block[2..], i), out),
                Self::Q5_0 => scaled_block(
                    half_at(block, 0),
                    -16.0,
                    0.0,
                    |i| nibble(&block[6..], i) | fifth_bit(block, 2, i),
                    out,
                ),
                Self::Q5_1 => {
                    let minimum = half_at(block, 2);
                    scaled_block(
                        half_at(block, 0),
                        0.0,
                        minimum,
                        |i| nibble(&block[8..], i) | fifth_bit(block, 4, i),
                        out,
                    );
                }
                Self::Q8_0 => {
                    let scale = half_at(block, 0);
                    for (out, q) in out.iter_mut().zip(&block[2..]) {
                        *out = scale * f32::from(*q as i8);
                    }
                }
                Self::Q4K => q4k_q5k_block(block, |group, i| group_nibble(&block[16..], group, i), out),
                Self::Q5K => {
                    let high = |group: usize, i: usize| ((block[16 + i] >> group) & 1) << 4;
                    q4k_q5k_block(
                        block,
                        |group, i| group_nibble(&block[48..], group, i) | high(group, i),
                        out,
                    );
                }
                Self::Q6K => q6k_block(block, out),
            }
        }
    }
}

/// Returns the binary16 number at byte `at` of a block.
fn half_at(block: &[u8], at: usize) -> f32 {
    half_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// Returns the 4 bits of value `i` of 32: the lower halves of 16 bytes hold values 0 to 15, the upper halves the
/// others.
fn nibble(bytes: &[u8], i: usize) -> u8 {
    (bytes[i % 16] >> (4 * (i / 16))) & 15
}

/// Returns the fifth bit of value `i`, shifted into place. The 32 bits begin at byte `at`.
fn fifth_bit(block: &[u8], at: usize, i: usize) -> u8 {
    ((block[at + i / 8] >> (i % 8)) & 1) << 4
}

/// Converts one block of 32 values: scale · (value + shift) + minimum.
fn scaled_block(scale: f32, shift: f32, minimum: f32, value: impl Fn(usize) -> u8, out: &mut [f32]) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = scale * (f32::from(value(i)) + shift) + minimum;
    }
}

/// Returns the 4 bits of value `i` of group `group`. Two groups share 32 bytes: one has the lower halves, one the
/// upper.
fn group_nibble(bytes: &[u8], group: usize, i: usize) -> u8 {
    (bytes[32 * (group / 2) + i] >> (4 * (group % 2))) & 15
}

/// Converts one block of Q4_K or Q5_K: a scale and a minimum (binary16), 12 bytes with eight 6-bit scales and eight
/// 6-bit minima, then the values.
fn q4k_q5k_block(block: &[u8], value: impl Fn(usize, usize) -> u8, out: &mut [f32]) {
    let (scale, minimum, packed) = (half_at(block, 0), half_at(block, 2), &block[4..16]);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (s, m) = if group < 4 {
            (packed[group] & 63, packed[group + 4] & 63)
        } else {
            let low_bits = packed[group + 4];
            (
                (low_bits & 15) | ((packed[group - 4] >> 6) << 4),
                (low_bits >> 4) | ((packed[group] >> 6) << 4),
            )
        };
        let (scale, minimum) = (scale * f32::from(s), minimum * f32::from(m));
        for (i, out) in out.iter_mut().enumerate() {
            *out = scale * f32::from(value(group, i)) - minimum;
        }
    }
}

/// Converts one block of Q6_K: the lower 4 bits (128 bytes), the upper 2 bits (64 bytes), 16 group scales, and a scale
/// of the whole block (binary16).
fn q6k_block(block: &[u8], out: &mut [f32]) {
    let (low, high, scales, scale) = (&block[..128], &block[128..192], &block[192..208], half_at(block, 208));
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let (side, quarter) = (part / 4, part % 4); // halves of 128 values, in quarters of 32
        for (i, out) in out.iter_mut().enumerate() {
            let low_bits = (low[64 * side + 32 * (quarter % 2) + i] >> (4 * (quarter / 2))) & 15;
            let high_bits = (high[32 * side + i] >> (2 * quarter)) & 3;
            let q = f32::from(low_bits | (high_bits << 4)) - 32.0;
            let group_scale = scale * f32::from(scales[2 * part + i / 16] as i8);
            *out = group_scale * q;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: [u8; 2] = [0x00, 0x3c];

    fn read(format: BlockFormat, block: &[u8]) -> Vec<f32> {
        let mut out = vec![f32::NAN; format.values()];
        format.read(block, &mut out);
        out
    }

    #[test]
    fn blocks_of_32_values_have_the_layout_of_the_specification() {
        let mut block = [&ONE[..], &[0x10; 16]].concat();
        let values = read(BlockFormat::Q4_0, &block);
        assert_eq!(
            (values[0], values[15], values[16], values[31]),
            (-8.0, -8.0, -7.0, -7.0)
        );
        block = [&ONE[..], &[1, 0, 0, 0x80], &[0x21; 16]].concat();
        let values = read(BlockFormat::Q5_0, &block);
        assert_eq!((values[0], values[1], values[16], values[31]), (1.0, -15.0, -14.0, 2.0));
        block = [&ONE[..], &ONE[..], &[0; 4], &[0x21; 16]].concat();
        assert_eq!(read(BlockFormat::Q5_1, &block)[16], 3.0);
        block = [&ONE[..], &[0xff; 32]].concat();
        assert_eq!(read(BlockFormat::Q8_0, &block), [-1.0; 32]);
    }

    #[test]
    fn every_value_of_a_block_is_written() {
        for format in [BlockFormat::Q4K, BlockFormat::Q5K, BlockFormat::Q6K] {
            assert_eq!(read(format, &vec![0; format.bytes()]), [0.0; 256], "{format:?}");
        }
    }
}
