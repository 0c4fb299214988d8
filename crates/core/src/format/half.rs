//! IEEE 754 half precision (binary16).

/// Converts binary16 bits to f32, exactly: normal numbers by shifts, subnormal ones by a product.
pub fn half_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let rest = u32::from(bits & 0x7fff);
    let magnitude = match rest >> 10 {
        0 => (rest as f32 * 2f32.powi(-24)).to_bits(),
        31 => 0x7f80_0000 | ((rest & 0x3ff) << 13),
        _ => (rest << 13) + ((127 - 15) << 23),
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversion_is_exact() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(half_to_f32(bits), value, "{bits:04x}");
        }
        assert!(half_to_f32(0x7e00).is_nan());
    }
}
