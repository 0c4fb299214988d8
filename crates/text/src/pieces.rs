//! Cutting a long text into pieces whose ids, one piece after the other, are the ids of the whole text.
//!
//! The library needs hundreds of bytes of memory for each byte of a text: it keeps the alignment of every normalized
//! byte, and every word as a string of its own. With pieces of [`PIECE`] bytes this memory is small for any text.
//!
//! A position between the characters `a` and `b` is a boundary if it is proven that nothing depends on both sides:
//! 1. No added token contains `a` followed by `b`, and no added token looks at its neighbours there.
//! 2. The normalizer treats both sides independently. The kinds that are known here work on single characters, or on
//!    sequences that end before `b`: `b` is ASCII or a CJK ideograph, which never combines with a character before it.
//! 3. The pre-tokenizer ends a word there, or no token of a BPE vocabulary contains `a` followed by `b`, so that no
//!    merge can cross the position.
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
    /// Words with more characters are one unknown token (WordPiece).
    max_word_chars: Option<usize>,
    /// The normalizer removes combining marks.
    removes_marks: bool,
}

impl Boundaries {
    /// Finds the rules for the parts of a tokenizer; `None` if one of the parts is not known. `max_word_chars` is a
    /// property of WordPiece, `bpe` the model if it is of this kind; its pairs are moved out of it.
    pub fn new(
        max_word_chars: Option<usize>,
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
            max_word_chars: None,
            removes_marks: false,
        };
        if word_ends == WordEnds::Nowhere {
            let bpe = bpe?;
            if !replaces_spaces(&normalizer) || bpe.model.ignore_merges || !bpe.merges_characters() {
                return None;
            }
            rules.pairs = std::mem::replace(&mut bpe.pairs, PairSet::new(0));
        } else {
            rules.read_normalizer(&normalizer)?;
        }
        if word_ends == WordEnds::Punctuation && normalizer["type"] == "BertNormalizer" {
            rules.max_word_chars = max_word_chars;
        }
        for token in added {
            rules.pairs.insert_all(&token.content);
            let (first, last) = (token.content.chars().next(), token.content.chars().next_back());
            if token.single_word || token.rstrip {
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
                self.removes_marks = part["strip_accents"].as_bool().unwrap_or(part["lowercase"] == true);
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
            WordEnds::Nowhere => return !self.pairs.contains(a, b),
            WordEnds::Punctuation => {
                separates(a) || separates(b) || (self.splits_ideographs && (is_ideograph(a) || is_ideograph(b)))
            }
            WordEnds::WhiteSpace => is_white_space(a) || is_white_space(b),
            WordEnds::Space => b == ' ',
            WordEnds::SpaceAfterWord => b == ' ' && is_word_end(a),
        };
        ends && is_inert(b)
            && !extends_forward(a)
            && (!self.after_word || is_word_end(a))
            && (!self.ascii || (a.is_ascii() && b.is_ascii()))
            && !self.pairs.contains(a, b)
            && !self.open_ends.contains(&fold(a))
            && !self.open_starts.contains(&fold(b))
    }

    /// Returns the length in bytes of the next piece of `text`.
    fn piece(&self, text: &str) -> usize {
        if text.len() <= PIECE {
            return text.len();
        }
        let mut head = PIECE;
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

    /// Returns a shorter text with the same ids for a piece without a boundary.
    ///
    /// WordPiece reads a word with too many characters as one unknown token, so the beginning of the word is enough. A
    /// normalizer that strips accents also removes repeated combining marks. One mark of each run remains, so that the
    /// characters around it do not become an added token.
    fn shorten<'a>(&self, piece: &'a str) -> Cow<'a, str> {
        let Some(max) = self.max_word_chars.filter(|_| piece.len() > PIECE) else {
            return Cow::Borrowed(piece);
        };
        let (mut letters, mut prefix) = (0, None);
        let one_word = piece.char_indices().all(|(at, char)| {
            letters += usize::from(is_letter(char));
            if letters > max && prefix.is_none() {
                prefix = Some(at + char.len_utf8());
            }
            is_letter(char) || may_vanish(char)
        });
        if let (true, Some(end)) = (one_word, prefix) {
            return Cow::Borrowed(&piece[..end]);
        }
        if !self.removes_marks {
            return Cow::Borrowed(piece);
        }
        let mut last = ' ';
        let kept = piece.chars().filter(|char| {
            let repeated = is_mark(*char) && is_mark(last);
            last = *char;
            !repeated
        });
        Cow::Owned(kept.collect())
    }
}

/// Iterates over the pieces of a text: all of it as one piece without boundaries.
pub(crate) fn pieces<'a>(boundaries: Option<&'a Boundaries>, text: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let Some(boundaries) = boundaries else {
            return Some(Cow::Borrowed(text));
        };
        let (piece, after) = text.split_at(boundaries.piece(text));
        rest = Some(after).filter(|after| !after.is_empty());
        Some(boundaries.shorten(piece))
    })
}

/// Returns where a pre-tokenizer ends a word; `None` if it is not known.
fn word_ends(part: &Value) -> Option<WordEnds> {
    match part["type"].as_str() {
        None if part.is_null() => Some(WordEnds::Nowhere),
        Some("BertPreTokenizer") => Some(WordEnds::Punctuation),
        Some("Whitespace" | "WhitespaceSplit") => Some(WordEnds::WhiteSpace),
        Some("Metaspace") if part["split"] == true && part["replacement"] == "\u{2581}" => Some(WordEnds::Space),
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

/// Returns whether a normalizer does nothing, or only writes spaces as U+2581.
fn replaces_spaces(part: &Value) -> bool {
    part.is_null() || (part["type"] == "Replace" && part["pattern"]["String"] == " " && part["content"] == "\u{2581}")
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

/// Characters that every normalizer turns into at least one character of the same word: no punctuation, no space.
fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c, '\u{c0}'..='\u{24f}' if c.is_alphabetic())
        || matches!(c, '\u{410}'..='\u{44f}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}')
        || matches!(c, '\u{ac00}'..='\u{d7a3}' | '\u{1f300}'..='\u{1f64f}')
}

/// Combining marks that have a class above 0 and are removed as accents.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}') && c != '\u{34f}'
}

/// Characters that a normalizer removes, or that are part of the word.
fn may_vanish(c: char) -> bool {
    is_mark(c) || matches!(c, '\u{200b}'..='\u{200d}' | '\u{fe0f}' | '\0'..='\u{8}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokenizers::normalizers::BertNormalizer;
    use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
    use tokenizers::{NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    fn boundaries(normalizer: &Value, pre_tokenizer: &Value) -> Option<Boundaries> {
        let normalizer: Option<NormalizerWrapper> = serde_json::from_value(normalizer.clone()).unwrap();
        let pre_tokenizer: Option<PreTokenizerWrapper> = serde_json::from_value(pre_tokenizer.clone()).unwrap();
        Boundaries::new(Some(100), None, normalizer.as_ref(), pre_tokenizer.as_ref(), &[])
    }

    /// The words that the library makes of a text.
    fn words(text: &str, normalizer: BertNormalizer) -> Vec<String> {
        let mut normalized = NormalizedString::from(text);
        normalizer.normalize(&mut normalized).unwrap();
        let mut words = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut words).unwrap();
        let splits = words.get_splits(OffsetReferential::Normalized, OffsetType::None);
        splits.into_iter().map(|(word, _, _)| word.to_owned()).collect()
    }

    #[test]
    fn letters_stay_in_one_word_and_marks_are_removed() {
        for strip in [false, true] {
            let normalizer = BertNormalizer::new(true, true, Some(strip), strip);
            for char in '\0'..=char::MAX {
                if is_letter(char) {
                    let word = words(&format!("a{char}b"), normalizer);
                    assert!(word.len() == 1 && word[0].chars().count() >= 3, "{char:?}: {word:?}");
                }
                if may_vanish(char) {
                    assert_eq!(words(&format!("a{char}b"), normalizer).len(), 1, "{char:?}");
                }
                if strip && is_mark(char) {
                    assert_eq!(words(&format!("a{char}b"), normalizer), ["ab"], "{char:?}");
                }
            }
        }
    }

    #[test]
    fn unknown_parts_leave_no_boundaries() {
        let metaspace =
            json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true});
        assert!(boundaries(&json!({"type": "NFKC"}), &metaspace).is_some());
        for (normalizer, pre_tokenizer) in [
            (json!({"type": "Prepend", "prepend": "a"}), metaspace.clone()),
            (
                json!({"type": "Strip", "strip_left": true, "strip_right": true}),
                metaspace.clone(),
            ),
            (
                json!({"type": "Replace", "pattern": {"Regex": "a+"}, "content": "a"}),
                metaspace,
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
    fn a_piece_is_as_long_as_possible_and_a_word_stays_whole() {
        let found = boundaries(&Value::Null, &json!({"type": "WhitespaceSplit"}));
        let found = found.as_ref();
        let lengths = |text: &str| pieces(found, text).map(|piece| piece.len()).collect::<Vec<_>>();
        assert_eq!(lengths(""), [0]);
        assert_eq!(lengths(&"a ".repeat(PIECE)), [PIECE, PIECE]);
        assert_eq!(lengths(&("a".repeat(2 * PIECE) + " b")), [2 * PIECE, 2]);
        assert_eq!(lengths(&"\u{1f600}".repeat(PIECE)), [4 * PIECE]);
    }

    #[test]
    fn a_long_word_and_repeated_marks_are_shortened() {
        let bert = json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true});
        let found = boundaries(&bert, &json!({"type": "BertPreTokenizer"})).unwrap();
        assert_eq!(found.shorten(&"a".repeat(2 * PIECE)).len(), 101);
        assert_eq!(found.shorten(&"\u{301}".repeat(PIECE)), "\u{301}");
        assert_eq!(found.shorten(&"a".repeat(PIECE)).len(), PIECE);
    }
}
