//! Cutting a long text into pieces whose ids, one piece after the other, are the ids of the whole text.
//!
//! The library needs hundreds of bytes of memory for each byte of a text. With pieces of [`PIECE`] bytes this memory is
//! small. A text without boundaries is encoded by [`crate::plain`].
//!
//! A position between the characters `a` and `b` is a boundary if it is proven that nothing depends on both sides:
//! 1. No added token contains `a` followed by `b`, and no added token looks at its neighbours there.
//! 2. The normalizer treats both sides independently. The kinds that are known here work on single characters, or on
//!    sequences that end before `b`: `b` is ASCII or a CJK ideograph, which never combines with a character before it.
//! 3. The pre-tokenizer ends a word there, or no token of a BPE vocabulary contains `a` followed by `b`, so that no
//!    merge can cross the position.
//!
//! Some tokenizers treat the edges of a text as special: they put a mark before it, or remove white space there. The
//! pieces after the first one are then encoded by [`crate::plain`], which knows that they continue a text.
//!
//! A tokenizer with a part that is not known here has no boundaries, and its texts are encoded whole.

use crate::bpe::BpeModel;
use crate::pair_set::{PairSet, fold};
use serde_json::Value;
use std::borrow::Cow;
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

/// Most bytes of a piece, if there is a boundary.
pub(crate) const PIECE: usize = 16 * 1024;

/// Regular expressions of byte-level tokenizers. A match never continues from another character into a space.
const WORD_PATTERNS: [&str; 2] = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];

/// Where a pre-tokenizer certainly ends a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WordEnds {
    /// At white space and at punctuation.
    Punctuation,
    /// At white space.
    WhiteSpace,
    /// Before a space.
    Space,
    /// Before a space that follows another character.
    SpaceAfterWord,
    /// Nowhere: the BPE model reads the whole text.
    Nowhere,
}

/// The positions where a text may be cut; see the module.
pub(crate) struct Boundaries {
    word_ends: WordEnds,
    /// The normalizer surrounds CJK ideographs with spaces.
    splits_ideographs: bool,
    /// Only letters, digits and visible ASCII characters may precede a boundary.
    after_word: bool,
    /// Only ASCII characters may precede and follow a boundary.
    ascii: bool,
    /// Pairs of characters in tokens.
    pairs: PairSet,
    /// Last characters of added tokens that depend on the character after them.
    open_ends: Vec<char>,
    /// First characters of added tokens that depend on the character before them.
    open_starts: Vec<char>,
    /// Only visible ASCII characters may precede a boundary.
    after_ascii: bool,
    /// The beginning of a text is treated as special, so the pieces after the first one must not be.
    pub edges: bool,
}

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub text: Cow<'a, str>,
    /// The piece is not the first one.
    pub continues: bool,
}

impl Boundaries {
    /// Finds the rules for the parts of a tokenizer; `None` if one of the parts is not known. `bpe` is the model if it is
    /// of this kind; its pairs are moved out of it.
    pub fn new(
        bpe: Option<&mut BpeModel>,
        normalizer: Option<&NormalizerWrapper>,
        pre_tokenizer: Option<&PreTokenizerWrapper>,
        added: &[AddedToken],
    ) -> Option<Self> {
        let json = |part: serde_json::Result<Value>| part.unwrap_or_default();
        let normalizer = normalizer.map_or(Value::Null, |part| json(serde_json::to_value(part)));
        let pre_tokenizer = pre_tokenizer.map_or(Value::Null, |part| json(serde_json::to_value(part)));
        let word_ends = word_ends(&pre_tokenizer)?;
        let mut rules = Self {
            word_ends,
            splits_ideographs: false,
            after_word: false,
            ascii: added.iter().any(|token| token.normalized) && !normalizer.is_null(),
            pairs: PairSet::new(12),
            open_ends: Vec::new(),
            open_starts: Vec::new(),
            after_ascii: false,
            edges: pre_tokenizer["split"] == false && pre_tokenizer["prepend_scheme"] != "never",
        };
        if word_ends == WordEnds::Nowhere {
            let bpe = bpe?;
            if !replaces_spaces(&normalizer) || bpe.settings.ignore_merges || !bpe.merges_characters() {
                return None;
            }
            rules.pairs = std::mem::replace(&mut bpe.pairs, PairSet::new(0));
        }
        rules.read_normalizer(&normalizer)?;
        for token in added {
            rules.pairs.insert_all(&token.content);
            let (first, last) = (token.content.chars().next(), token.content.chars().next_back());
            // A text after an added token begins anew.
            if token.single_word || token.rstrip || rules.edges {
                rules.open_ends.extend(last.map(fold));
            }
            if token.single_word {
                rules.open_starts.extend(first.map(fold));
            }
            rules.after_word |= token.lstrip || token.rstrip;
        }
        Some(rules)
    }

    /// Adds the rules of a normalizer; `None` if it is not known.
    fn read_normalizer(&mut self, part: &Value) -> Option<()> {
        match part["type"].as_str() {
            None if part.is_null() => {}
            Some("NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" | "StripAccents" | "Nmt" | "Precompiled") => {}
            Some("BertNormalizer") => {
                self.splits_ideographs = part["handle_chinese_chars"] == true;
            }
            Some("Prepend") => self.edges = true,
            Some("Strip") => {
                self.after_ascii = true;
                self.edges |= part["strip_left"] == true;
            }
            Some("Replace") => {
                part["content"].as_str()?;
                match (part["pattern"]["String"].as_str(), part["pattern"]["Regex"].as_str()) {
                    (Some(pattern), _) => {
                        self.pairs.insert_all(pattern);
                        self.after_word |= pattern.chars().nth(1).is_some();
                    }
                    (_, Some(" {2,}")) => self.after_word = true,
                    _ => return None,
                }
            }
            Some("Sequence") => {
                for part in part["normalizers"].as_array()? {
                    self.read_normalizer(part)?;
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// Returns whether a text may be cut between `a` and `b`.
    fn is_boundary(&self, a: char, b: char) -> bool {
        let ends = match self.word_ends {
            WordEnds::Nowhere => return self.separates_parts(a, b),
            WordEnds::Punctuation => {
                separates(a) || separates(b) || (self.splits_ideographs && (is_ideograph(a) || is_ideograph(b)))
            }
            WordEnds::WhiteSpace => is_white_space(a) || is_white_space(b),
            WordEnds::Space => b == ' ',
            WordEnds::SpaceAfterWord => b == ' ' && is_word_end(a),
        };
        ends && is_inert(b) && !extends_forward(a) && self.separates_parts(a, b)
    }

    /// Returns whether no added token and no part of the normalizer looks at both `a` and `b`.
    fn separates_parts(&self, a: char, b: char) -> bool {
        (!self.after_word || is_word_end(a))
            && (!self.after_ascii || a.is_ascii_graphic())
            && (!self.ascii || (a.is_ascii() && b.is_ascii()))
            && !self.pairs.contains(a, b)
            && !self.open_ends.contains(&fold(a))
            && !self.open_starts.contains(&fold(b))
    }

    /// Returns the length in bytes of the next piece of `text`: at most `size` if there is a boundary.
    fn piece(&self, text: &str, size: usize) -> usize {
        if text.len() <= size {
            return text.len();
        }
        let mut head = size;
        while !text.is_char_boundary(head) {
            head -= 1;
        }
        let mut after = None;
        for (at, before) in text[..head].char_indices().rev() {
            let end = at + before.len_utf8();
            let next = after.replace(before).or_else(|| text[end..].chars().next());
            if next.is_some_and(|next| self.is_boundary(before, next)) {
                return end;
            }
        }
        let mut before = None;
        for (at, next) in text[head..].char_indices() {
            if before
                .replace(next)
                .is_some_and(|before| self.is_boundary(before, next))
            {
                return head + at;
            }
        }
        text.len()
    }
}

/// Iterates over the pieces of `head` followed by `text`, the first one with about `size` bytes of `text`. Without
/// boundaries there is one piece.
pub(crate) fn pieces<'a>(
    boundaries: Option<&'a Boundaries>,
    head: &'a str,
    text: &'a str,
    size: usize,
) -> impl Iterator<Item = Piece<'a>> {
    let mut rest = Some(text);
    let mut continues = false;
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let size = if continues { PIECE } else { size };
        let length = boundaries.map_or(text.len(), |boundaries| boundaries.piece(text, size));
        let (piece, after) = text.split_at(length);
        rest = Some(after).filter(|after| !after.is_empty());
        let text = if continues || head.is_empty() {
            Cow::Borrowed(piece)
        } else {
            Cow::Owned([head, piece].concat())
        };
        Some(Piece {
            text,
            continues: std::mem::replace(&mut continues, true),
        })
    })
}

/// Returns where a pre-tokenizer ends a word; `None` if it is not known.
fn word_ends(part: &Value) -> Option<WordEnds> {
    match part["type"].as_str() {
        None if part.is_null() => Some(WordEnds::Nowhere),
        Some("BertPreTokenizer") => Some(WordEnds::Punctuation),
        Some("Whitespace" | "WhitespaceSplit") => Some(WordEnds::WhiteSpace),
        Some("Metaspace") if part["replacement"] == "\u{2581}" => match part["split"].as_bool()? {
            true => Some(WordEnds::Space),
            false => Some(WordEnds::Nowhere),
        },
        Some("ByteLevel") if part["use_regex"] == true => Some(WordEnds::SpaceAfterWord),
        Some("Split") if part["pattern"]["String"] == " " => Some(WordEnds::Nowhere),
        Some("Split") if part["behavior"] == "Isolated" && part["invert"] == false => {
            let pattern = part["pattern"]["Regex"].as_str()?;
            WORD_PATTERNS.contains(&pattern).then_some(WordEnds::SpaceAfterWord)
        }
        Some("Sequence") => {
            let (first, rest) = part["pretokenizers"].as_array()?.split_first()?;
            // The others work on each word alone, but for one that treats the beginning of the text as special.
            let alone = |part: &Value| match part["type"].as_str() {
                Some("Metaspace") => part["prepend_scheme"] != "first",
                Some("ByteLevel") => true,
                _ => false,
            };
            let ends = word_ends(first).filter(|ends| *ends != WordEnds::Nowhere);
            ends.filter(|_| rest.iter().all(alone))
        }
        _ => None,
    }
}

/// Returns whether a normalizer does nothing, or only writes spaces as U+2581 and puts one before a text.
fn replaces_spaces(part: &Value) -> bool {
    match part["type"].as_str() {
        None => part.is_null(),
        Some("Replace") => part["pattern"]["String"] == " " && part["content"] == "\u{2581}",
        Some("Prepend") => part["prepend"] == "\u{2581}",
        Some("Sequence") => part["normalizers"]
            .as_array()
            .is_some_and(|parts| parts.iter().all(replaces_spaces)),
        _ => false,
    }
}

fn is_white_space(c: char) -> bool {
    matches!(c, ' ' | '\n' | '\t')
}

fn separates(c: char) -> bool {
    is_white_space(c) || c.is_ascii_punctuation()
}

/// Ideographs that have no decomposition and stand alone in a grapheme.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}')
}

/// Characters that no Unicode form and no grapheme joins to what precedes them.
fn is_inert(c: char) -> bool {
    is_white_space(c) || c.is_ascii_graphic() || is_ideograph(c)
}

/// Characters that belong to the grapheme of the next character. The carriage return joins only a line feed.
fn extends_forward(c: char) -> bool {
    matches!(c, '\r' | '\u{600}'..='\u{605}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{d4e}')
        || (c > '\u{ffff}' && !matches!(c, '\u{1f000}'..='\u{1faff}' | '\u{20000}'..='\u{3ffff}'))
}

/// Characters after which a space begins a new word, whatever the normalizer.
fn is_word_end(c: char) -> bool {
    c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn boundaries(normalizer: &Value, pre_tokenizer: &Value) -> Option<Boundaries> {
        let normalizer: Option<NormalizerWrapper> = serde_json::from_value(normalizer.clone()).unwrap();
        let pre_tokenizer: Option<PreTokenizerWrapper> = serde_json::from_value(pre_tokenizer.clone()).unwrap();
        Boundaries::new(None, normalizer.as_ref(), pre_tokenizer.as_ref(), &[])
    }

    #[test]
    fn unknown_parts_leave_no_boundaries() {
        let metaspace =
            json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true});
        assert!(boundaries(&json!({"type": "NFKC"}), &metaspace).is_some());
        for (normalizer, pre_tokenizer) in [
            (json!({"type": "ByteLevel"}), metaspace.clone()),
            (
                json!({"type": "Replace", "pattern": {"Regex": "a+"}, "content": "a"}),
                metaspace,
            ),
            (
                Value::Null,
                json!({"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": true}),
            ),
            (Value::Null, json!({"type": "Punctuation", "behavior": "Isolated"})),
            (
                Value::Null,
                json!({"type": "Split", "pattern": {"Regex": "a+"}, "behavior": "Isolated", "invert": false}),
            ),
            (Value::Null, Value::Null),
        ] {
            assert!(
                boundaries(&normalizer, &pre_tokenizer).is_none(),
                "{normalizer} {pre_tokenizer}"
            );
        }
    }

    #[test]
    fn a_sequence_has_boundaries_if_its_later_parts_work_on_each_word_alone() {
        let split =
            json!({"type": "Split", "pattern": {"Regex": WORD_PATTERNS[0]}, "behavior": "Isolated", "invert": false});
        let metaspace =
            |scheme| json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": true});
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
        let white_space = json!({"type": "WhitespaceSplit"});
        for (first, second, expected) in [
            (&split, byte_level, Some(WordEnds::SpaceAfterWord)),
            (&white_space, metaspace("always"), Some(WordEnds::WhiteSpace)),
            (&white_space, metaspace("first"), None),
            (
                &white_space,
                json!({"type": "Punctuation", "behavior": "Isolated"}),
                None,
            ),
        ] {
            let sequence = json!({"type": "Sequence", "pretokenizers": [first, second]});
            let found = boundaries(&Value::Null, &sequence);
            assert_eq!(found.map(|found| found.word_ends), expected, "{sequence}");
        }
    }

    #[test]
    fn a_piece_is_as_long_as_possible_and_a_word_stays_whole() {
        let found = boundaries(&Value::Null, &json!({"type": "WhitespaceSplit"}));
        let found = found.as_ref();
        let lengths = |text: &str| {
            pieces(found, "", text, PIECE)
                .map(|piece| piece.text.len())
                .collect::<Vec<_>>()
        };
        assert_eq!(lengths(""), [0]);
        assert_eq!(lengths(&"a ".repeat(PIECE)), [PIECE, PIECE]);
        assert_eq!(lengths(&("a".repeat(2 * PIECE) + " b")), [2 * PIECE, 2]);
        assert_eq!(lengths(&"\u{1f600}".repeat(PIECE)), [4 * PIECE]);
    }

    #[test]
    fn the_first_piece_has_the_head_and_its_own_size() {
        let found = boundaries(&Value::Null, &json!({"type": "WhitespaceSplit"}));
        let found: Vec<_> = pieces(found.as_ref(), "query: ", "a b c", 3).collect();
        assert_eq!((&*found[0].text, found[0].continues), ("query: a b", false));
        assert_eq!((&*found[1].text, found[1].continues), (" c", true));
        assert_eq!(found.len(), 2);
    }
}
