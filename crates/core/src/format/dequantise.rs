//! The block formats of GGUF, back to floats. Each block has its own scale; a row is whole blocks.
//!
//! Products and sums are rounded one by one, in the order of the format's own description, so that the values equal
//! those of the published reader.

use crate::format::checkpoint::half_to_f32;

/// A block format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quant {
    /// 32 values: a scale, 4 bits each, less 8.
    Q4_0,
    /// 32 values: a scale, 5 bits each, less 16.
    Q5_0,
    /// 32 values: a scale and a least value, 5 bits each.
    Q5_1,
    /// 32 values: a scale, 8 bits each.
    Q8_0,
    /// 256 values in eights of 32: scales and least values of 6 bits, 4 bits each.
    Q4K,
    /// As [`Quant::Q4K`] with 5 bits each.
    Q5K,
    /// 256 values in sixteenths: scales of 8 bits, 6 bits each, less 32.
    Q6K,
}

impl Quant {
    /// Values of a block.
    pub fn values(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
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

    /// Its name in GGUF.
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

    /// Widens whole blocks.
    pub fn read(self, bytes: &[u8], out: &mut [f32]) {
        let blocks = bytes
            .chunks_exact(self.bytes())
            .zip(out.chunks_exact_mut(self.values()));
        for (block, out) in blocks {
            match self {
                Self::Q4_0 => small(half(block, 0), -8.0, 0.0, |i| nibble(&block[2..], i), out),
                Self::Q5_0 => small(
                    half(block, 0),
                    -16.0,
                    0.0,
                    |i| nibble(&block[6..], i) | fifth(block, 2, i),
                    out,
                ),
                Self::Q5_1 => {
                    let least = half(block, 2);
                    small(
                        half(block, 0),
                        0.0,
                        least,
                        |i| nibble(&block[8..], i) | fifth(block, 4, i),
                        out,
                    );
                }
                Self::Q8_0 => {
                    let scale = half(block, 0);
                    for (out, q) in out.iter_mut().zip(&block[2..]) {
                        *out = scale * f32::from(*q as i8);
                    }
                }
                Self::Q4K => eights(block, |part, i| pair(&block[16..], part, i), out),
                Self::Q5K => {
                    let high = |part: usize, i: usize| ((block[16 + i] >> part) & 1) << 4;
                    eights(block, |part, i| pair(&block[48..], part, i) | high(part, i), out);
                }
                Self::Q6K => sixteenths(block, out),
            }
        }
    }
}

fn half(block: &[u8], at: usize) -> f32 {
    half_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// 4 bits of value `i` of 32: the low halves of 16 bytes, then the high ones.
fn nibble(bytes: &[u8], i: usize) -> u8 {
    (bytes[i % 16] >> (4 * (i / 16))) & 15
}

/// The fifth bit of value `i`, of the 32 bits that begin at `at`.
fn fifth(block: &[u8], at: usize, i: usize) -> u8 {
    ((block[at + i / 8] >> (i % 8)) & 1) << 4
}

fn small(scale: f32, shift: f32, least: f32, value: impl Fn(usize) -> u8, out: &mut [f32]) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = scale * (f32::from(value(i)) + shift) + least;
    }
}

/// 4 bits of value `i` of part `part`: two parts share 32 bytes.
fn pair(bytes: &[u8], part: usize, i: usize) -> u8 {
    (bytes[32 * (part / 2) + i] >> (4 * (part % 2))) & 15
}

/// Q4_K and Q5_K: two halves, 12 bytes with eight scales and eight least values of 6 bits, then the values.
fn eights(block: &[u8], value: impl Fn(usize, usize) -> u8, out: &mut [f32]) {
    let (scale, least, packed) = (half(block, 0), half(block, 2), &block[4..16]);
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let (s, m) = if part < 4 {
            (packed[part] & 63, packed[part + 4] & 63)
        } else {
            let both = packed[part + 4];
            (
                (both & 15) | ((packed[part - 4] >> 6) << 4),
                (both >> 4) | ((packed[part] >> 6) << 4),
            )
        };
        let (scale, least) = (scale * f32::from(s), least * f32::from(m));
        for (i, out) in out.iter_mut().enumerate() {
            *out = scale * f32::from(value(part, i)) - least;
        }
    }
}

/// Q6_K: low 4 bits (128 bytes), high 2 bits (64), 16 scales, one scale of the scales.
fn sixteenths(block: &[u8], out: &mut [f32]) {
    let (low, high, scales, scale) = (&block[..128], &block[128..192], &block[192..208], half(block, 208));
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let (side, quarter) = (part / 4, part % 4); // halves of 128 values, in quarters of 32
        for (i, out) in out.iter_mut().enumerate() {
            let four = (low[64 * side + 32 * (quarter % 2) + i] >> (4 * (quarter / 2))) & 15;
            let two = (high[32 * side + i] >> (2 * quarter)) & 3;
            let q = f32::from(four | (two << 4)) - 32.0;
            let own = scale * f32::from(scales[2 * part + i / 16] as i8);
            *out = own * q;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: [u8; 2] = [0x00, 0x3c];

    fn read(quant: Quant, block: &[u8]) -> Vec<f32> {
        let mut out = vec![f32::NAN; quant.values()];
        quant.read(block, &mut out);
        out
    }

    #[test]
    fn small_blocks_lie_as_the_format_says() {
        let mut block = [&ONE[..], &[0x10; 16]].concat();
        let values = read(Quant::Q4_0, &block);
        assert_eq!(
            (values[0], values[15], values[16], values[31]),
            (-8.0, -8.0, -7.0, -7.0)
        );
        block = [&ONE[..], &[1, 0, 0, 0x80], &[0x21; 16]].concat();
        let values = read(Quant::Q5_0, &block);
        assert_eq!((values[0], values[1], values[16], values[31]), (1.0, -15.0, -14.0, 2.0));
        block = [&ONE[..], &ONE[..], &[0; 4], &[0x21; 16]].concat();
        assert_eq!(read(Quant::Q5_1, &block)[16], 3.0);
        block = [&ONE[..], &[0xff; 32]].concat();
        assert_eq!(read(Quant::Q8_0, &block), [-1.0; 32]);
    }

    #[test]
    fn every_value_of_a_block_is_written() {
        for quant in [Quant::Q4K, Quant::Q5K, Quant::Q6K] {
            assert_eq!(read(quant, &vec![0; quant.bytes()]), [0.0; 256], "{quant:?}");
        }
    }
}
