//! A set of pairs of adjacent characters, such as those in the tokens of a vocabulary.

/// A set of pairs of characters that may report a pair which was not inserted. Variants that [`fold`] equates are equal.
pub(crate) struct PairSet {
    bits: Vec<u64>,
    shift: u32,
}

impl PairSet {
    /// Creates an empty set of `2^log2` bits, at least 64.
    pub fn new(log2: u32) -> Self {
        let log2 = log2.max(6);
        Self {
            bits: vec![0; 1 << (log2 - 6)],
            shift: 64 - log2,
        }
    }

    /// Returns the set with these bits, as [`Self::bits`] returns them; `None` if their number is wrong.
    pub fn from_bits(shift: u32, bits: Vec<u64>) -> Option<Self> {
        let words = 1_usize.checked_shl(58_u32.checked_sub(shift)?)?;
        (bits.len() == words).then_some(Self { bits, shift })
    }

    /// Returns what [`Self::from_bits`] makes this set of.
    pub fn bits(&self) -> (u32, &[u64]) {
        (self.shift, &self.bits)
    }

    /// Inserts the pairs of adjacent characters of a token.
    pub fn insert_all(&mut self, token: &str) {
        let mut chars = token.chars();
        let mut before = chars.next();
        for after in chars {
            if let Some(before) = before.replace(after) {
                let place = self.place(before, after);
                self.bits[place / 64] |= 1 << (place % 64);
            }
        }
    }

    /// Returns whether the set may contain the pair.
    pub fn contains(&self, a: char, b: char) -> bool {
        let place = self.place(a, b);
        self.bits[place / 64] >> (place % 64) & 1 == 1
    }

    fn place(&self, a: char, b: char) -> usize {
        let pair = u64::from(u32::from(fold(a))) << 21 | u64::from(u32::from(fold(b)));
        // The multiplier is 2^64 divided by the golden ratio (Knuth, "The Art of Computer Programming", 6.4).
        usize::try_from(pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift).unwrap_or_default()
    }
}

/// Returns the character that stands for `c` and its variants that a normalizer may make equal to it.
pub(crate) fn fold(c: char) -> char {
    if c == '\u{2581}' { ' ' } else { c.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_pairs_of_its_tokens() {
        let mut pairs = PairSet::new(20);
        pairs.insert_all("\u{2581}The");
        for (a, b, found) in [
            (' ', 't', true),
            ('h', 'E', true),
            ('e', 't', false),
            ('\u{2581}', ' ', false),
        ] {
            assert_eq!(pairs.contains(a, b), found, "{a:?} {b:?}");
        }
    }
}
