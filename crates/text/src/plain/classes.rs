//! The character classes of the library's regular expressions.
//!
//! The library's regular expression engine has Unicode tables of its own, so it is asked itself: once, with a text of all
//! characters.

use std::sync::LazyLock;
use tokenizers::utils::SysRegex;

/// The class of a character in the patterns of byte-level tokenizers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s`
    Space,
    Other,
}

/// The class of each character, 2 bits each.
struct Classes {
    bits: Vec<u8>,
}

static CLASSES: LazyLock<Result<Classes, String>> = LazyLock::new(Classes::new);

/// Returns the function that classifies characters.
///
/// # Errors
/// The reason why the library's engine failed.
pub(super) fn classify() -> Result<impl Fn(char) -> Class, String> {
    let classes = CLASSES.as_ref().map_err(Clone::clone)?;
    Ok(|char| classes.get(char))
}

impl Classes {
    fn new() -> Result<Self, String> {
        let all: String = ('\0'..=char::MAX).collect();
        let mut bits = vec![0; (char::MAX as usize + 1).div_ceil(4)];
        for (pattern, class) in [(r"\p{L}+", 1), (r"\p{N}+", 2), (r"\s+", 3)] {
            let regex = SysRegex::new(pattern).map_err(|error| error.to_string())?;
            for (start, end) in regex.find_iter(&all) {
                for char in all[start..end].chars() {
                    bits[char as usize / 4] |= class << (char as usize % 4 * 2);
                }
            }
        }
        Ok(Self { bits })
    }

    fn get(&self, char: char) -> Class {
        match self.bits[char as usize / 4] >> (char as usize % 4 * 2) & 3 {
            1 => Class::Letter,
            2 => Class::Number,
            3 => Class::Space,
            _ => Class::Other,
        }
    }
}
