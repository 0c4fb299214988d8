//! The pre-tokenizers of the tokenizers library on plain strings: they pass each word to a function.

use super::classes::{Class, classify};
use serde_json::Value;
use std::sync::LazyLock;
use tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use unicode_categories::UnicodeCategories;

/// The pattern of byte-level tokenizers since Llama 3 and Qwen 2; `{1,3}` or nothing follows `\p{N}`.
const WORDS: (&str, &str) = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Contractions after an apostrophe, in the order of the patterns.
const CONTRACTIONS: [&str; 7] = ["s", "t", "re", "ve", "m", "ll", "d"];

/// One step of a pre-tokenizer.
#[derive(Debug, Clone)]
enum Step {
    Bert,
    /// `\w+|[^\w\s]+`
    Words,
    WhiteSpace,
    Metaspace {
        mark: char,
        scheme: PrependScheme,
        split: bool,
    },
    /// Byte-level pattern of GPT-2, `None` without one, and whether a space is put before a text.
    ByteLevel {
        words: bool,
        prefix: bool,
    },
    /// Pattern [`WORDS`] with up to so many digits in a word.
    Pattern {
        digits: usize,
    },
}

/// Where a text is in the whole one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The text is the beginning.
    pub first: bool,
    /// The text continues another one, within a word or with the space before one.
    pub continues: bool,
}

/// A pre-tokenizer as a sequence of steps.
pub(super) struct Splitter {
    steps: Vec<Step>,
}

impl Splitter {
    /// Returns `None` for a pre-tokenizer that is not known. `spaceless` says that the normalizer leaves no spaces.
    pub fn new(part: Option<&PreTokenizerWrapper>, spaceless: bool) -> Option<Self> {
        let mut steps = Vec::new();
        if let Some(part) = part {
            add_steps(part, spaceless, &mut steps)?;
        }
        Some(Self { steps })
    }

    /// Returns whether the first text alone gets a mark.
    pub fn marks_first(&self) -> bool {
        let first = |step: &Step| {
            matches!(
                step,
                Step::Metaspace {
                    scheme: PrependScheme::First,
                    ..
                }
            )
        };
        self.steps.iter().any(first)
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Calls `word` with each word of a normalized text, none of them empty.
    ///
    /// # Errors
    /// Those of `word`, or the reason why the character classes are not known.
    pub fn split<E: From<String>>(
        &self,
        text: &str,
        place: Place,
        word: &mut dyn FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        apply(&self.steps, text, place, word)
    }
}

fn add_steps(part: &PreTokenizerWrapper, spaceless: bool, steps: &mut Vec<Step>) -> Option<()> {
    steps.push(match part {
        PreTokenizerWrapper::Sequence(parts) => {
            return parts
                .as_ref()
                .iter()
                .try_for_each(|part| add_steps(part, spaceless, steps));
        }
        PreTokenizerWrapper::BertPreTokenizer(_) => Step::Bert,
        PreTokenizerWrapper::Whitespace(_) => Step::Words,
        PreTokenizerWrapper::WhitespaceSplit(_) => Step::WhiteSpace,
        PreTokenizerWrapper::Metaspace(part) => Step::Metaspace {
            mark: part.get_replacement(),
            scheme: part.get_prepend_scheme(),
            split: part.get_split(),
        },
        PreTokenizerWrapper::ByteLevel(part) => Step::ByteLevel {
            words: part.use_regex,
            prefix: part.add_prefix_space,
        },
        PreTokenizerWrapper::Split(part) => {
            let part: Value = serde_json::to_value(part).ok()?;
            if spaceless && part["pattern"]["String"] == " " && part["invert"] == false {
                return Some(());
            }
            let pattern = part["pattern"]["Regex"].as_str()?;
            if part["behavior"] != "Isolated" || part["invert"] != false {
                return None;
            }
            match pattern.strip_prefix(WORDS.0)?.strip_suffix(WORDS.1)? {
                "" => Step::Pattern { digits: 1 },
                "{1,3}" => Step::Pattern { digits: 3 },
                _ => return None,
            }
        }
        _ => return None,
    });
    Some(())
}

fn apply<E: From<String>>(
    steps: &[Step],
    text: &str,
    place: Place,
    word: &mut dyn FnMut(&str) -> Result<(), E>,
) -> Result<(), E> {
    if text.is_empty() {
        return Ok(());
    }
    let Some((step, rest)) = steps.split_first() else {
        return word(text);
    };
    let mut next = |part: &str| apply(rest, part, place, word);
    match step {
        Step::Bert => text
            .split(char::is_whitespace)
            .try_for_each(|part| isolate(part, is_punctuation, &mut next)),
        Step::Words => runs(text, is_word, &mut next),
        Step::WhiteSpace => text.split(char::is_whitespace).try_for_each(next),
        Step::Metaspace { mark, scheme, split } => {
            let wanted = match scheme {
                PrependScheme::Always => true,
                PrependScheme::First => place.first,
                PrependScheme::Never => false,
            };
            // A word is continued only if it is not split.
            let wanted = wanted && (*split || !place.continues);
            let is_mark = |char: char| char == ' ' || char == *mark;
            if !split {
                let mut marked = String::with_capacity(text.len() + mark.len_utf8());
                marked.extend(Some(*mark).filter(|_| wanted && !text.starts_with(is_mark)));
                marked.extend(text.chars().map(|char| if char == ' ' { *mark } else { char }));
                return next(&marked);
            }
            // Each mark begins a word, so the text is not copied as a whole.
            let mut rest = text;
            while let Some(first) = rest.chars().next() {
                let begin = if is_mark(first) { first.len_utf8() } else { 0 };
                let end = rest[begin..].find(is_mark).map_or(rest.len(), |length| begin + length);
                if begin > 0 || (wanted && rest.len() == text.len()) {
                    next(&[mark.encode_utf8(&mut [0; 4]), &rest[begin..end]].concat())?;
                } else {
                    next(&rest[..end])?;
                }
                rest = &rest[end..];
            }
            Ok(())
        }
        Step::ByteLevel { words, prefix } => {
            let spaced = *prefix && !text.starts_with(' ');
            let spaced = spaced.then(|| [" ", text].concat());
            let text = spaced.as_deref().unwrap_or(text);
            let mut bytes = |part: &str| next(&part.bytes().map(|byte| BYTES[byte as usize]).collect::<String>());
            if *words {
                matches(text, gpt2, bytes)
            } else {
                bytes(text)
            }
        }
        Step::Pattern { digits } => matches(text, |text, class| pattern(text, class, *digits), next),
    }
}

/// Calls `next` with each match of a pattern that matches at every position. `length` returns the length of the match.
fn matches<E: From<String>>(
    text: &str,
    length: impl Fn(&str, &dyn Fn(char) -> Class) -> usize,
    mut next: impl FnMut(&str) -> Result<(), E>,
) -> Result<(), E> {
    let class = classify()?;
    let class: &dyn Fn(char) -> Class = &class;
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(length(rest, class));
        next(word)?;
        rest = after;
    }
    Ok(())
}

/// Length of the run of characters at the beginning of `text` that `is` accepts.
fn run(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|char| !is(char)).unwrap_or(text.len())
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
fn gpt2(text: &str, class: &dyn Fn(char) -> Class) -> usize {
    if let Some(after) = text.strip_prefix('\'')
        && let Some(found) = CONTRACTIONS.iter().find(|found| after.starts_with(**found))
    {
        return 1 + found.len();
    }
    let spaces = usize::from(text.starts_with(' '));
    match text[spaces..].chars().next().map(class) {
        None | Some(Class::Space) => white_space(text, class),
        Some(found) => spaces + run(&text[spaces..], |char| class(char) == found),
    }
}

/// The pattern [`WORDS`] with up to `digits` digits.
fn pattern(text: &str, class: &dyn Fn(char) -> Class, digits: usize) -> usize {
    let mut chars = text.chars();
    let (first, second) = (chars.next().unwrap_or_default(), chars.next());
    if first == '\''
        && let Some(length) = CONTRACTIONS.iter().find_map(|found| folded_prefix(&text[1..], found))
    {
        return 1 + length;
    }
    let found = class(first);
    let newline = |char| matches!(char, '\r' | '\n');
    let letter = |char| class(char) == Class::Letter;
    match found {
        Class::Letter => return run(text, letter),
        Class::Number => {
            let number = |char: &char| class(*char) == Class::Number;
            return text.chars().take(digits).take_while(number).map(char::len_utf8).sum();
        }
        _ if !newline(first) && second.is_some_and(letter) => {
            return first.len_utf8() + run(&text[first.len_utf8()..], letter);
        }
        _ => {}
    }
    let spaces = usize::from(first == ' ');
    if text[spaces..].chars().next().map(class) == Some(Class::Other) {
        let end = spaces + run(&text[spaces..], |char| class(char) == Class::Other);
        return end + run(&text[end..], newline);
    }
    let end = run(text, |char| class(char) == Class::Space);
    match text[..end].rfind(newline) {
        Some(last) => last + 1,
        None => white_space(text, class),
    }
}

/// `\s+(?!\S)|\s+`: white space up to the last character before a word.
fn white_space(text: &str, class: &dyn Fn(char) -> Class) -> usize {
    let end = run(text, |char| class(char) == Class::Space);
    let last = text[..end].char_indices().next_back().map_or(0, |(at, _)| at);
    if end < text.len() && last > 0 { last } else { end }
}

/// Length of the beginning of `text` that is `word` in any case. The long s is an s, too.
fn folded_prefix(text: &str, word: &str) -> Option<usize> {
    let mut chars = text.chars();
    word.chars().try_fold(0, |length, wanted| {
        let char = chars.next()?;
        let same = char.eq_ignore_ascii_case(&wanted) || (wanted == 's' && char == '\u{17f}');
        same.then(|| length + char.len_utf8())
    })
}

/// Calls `next` with the parts between the characters that `is` accepts, and with these characters.
fn isolate<E>(text: &str, is: impl Fn(char) -> bool, next: &mut dyn FnMut(&str) -> Result<(), E>) -> Result<(), E> {
    let mut start = 0;
    for (at, found) in text.match_indices(is) {
        next(&text[start..at])?;
        next(found)?;
        start = at + found.len();
    }
    next(&text[start..])
}

/// Calls `next` with the runs of characters that are alike in `is`; white space is left out.
fn runs<E>(text: &str, is: impl Fn(char) -> bool, next: &mut dyn FnMut(&str) -> Result<(), E>) -> Result<(), E> {
    for part in text.split(char::is_whitespace) {
        let mut rest = part;
        while let Some(first) = rest.chars().next() {
            let (found, after) = rest.split_at(run(rest, |char| is(char) == is(first)));
            next(found)?;
            rest = after;
        }
    }
    Ok(())
}

fn is_punctuation(char: char) -> bool {
    char.is_ascii_punctuation() || char.is_punctuation()
}

/// `\w` of the library's regular expressions.
pub(super) fn is_word(char: char) -> bool {
    regex_syntax::try_is_word_character(char).unwrap_or_default()
}

/// The characters that stand for bytes in byte-level tokenizers.
static BYTES: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut others = '\u{100}'..;
    std::array::from_fn(|byte| match u8::try_from(byte).unwrap_or_default() {
        byte @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..) => char::from(byte),
        _ => others.next().unwrap_or_default(),
    })
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain::testing::{all_characters, texts};
    use serde_json::json;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    #[test]
    fn texts_are_split_as_by_the_library() {
        let metaspace = |scheme: &str, split: bool| json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": split});
        let bytes = |prefix: bool, words: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": words});
        let pattern = |count: &str| json!({"type": "Split", "pattern": {"Regex": ([WORDS.0, count, WORDS.1].concat())}, "behavior": "Isolated", "invert": false});
        let sequence = |parts: &[Value]| json!({"type": "Sequence", "pretokenizers": parts});
        for part in [
            json!({"type": "BertPreTokenizer"}),
            json!({"type": "Whitespace"}),
            json!({"type": "WhitespaceSplit"}),
            metaspace("always", true),
            metaspace("first", true),
            metaspace("never", true),
            metaspace("always", false),
            bytes(false, true),
            bytes(true, true),
            sequence(&[pattern(""), bytes(false, false)]),
            sequence(&[pattern("{1,3}"), bytes(false, false)]),
            sequence(&[json!({"type": "WhitespaceSplit"}), metaspace("always", true)]),
        ] {
            let library: PreTokenizerWrapper = serde_json::from_value(part.clone()).unwrap();
            let ours = Splitter::new(Some(&library), false).unwrap();
            for text in texts().chain(all_characters()) {
                let mut expected = PreTokenizedString::from(text.as_str());
                library.pre_tokenize(&mut expected).unwrap();
                let expected = expected.get_splits(OffsetReferential::Normalized, OffsetType::None);
                let expected: Vec<&str> = expected.into_iter().map(|(word, _, _)| word).collect();
                let place = Place {
                    first: true,
                    continues: false,
                };
                let mut found = Vec::new();
                let word = &mut |word: &str| {
                    found.push(word.to_owned());
                    Ok::<_, String>(())
                };
                ours.split(&text, place, word).unwrap();
                assert_eq!(found, expected, "{part} {text:?}");
            }
        }
    }

    #[test]
    fn a_continued_word_gets_no_mark() {
        let part = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": false});
        let ours = Splitter::new(Some(&serde_json::from_value(part).unwrap()), false).unwrap();
        let mut found = Vec::new();
        for continues in [false, true] {
            let place = Place { first: true, continues };
            let word = &mut |word: &str| {
                found.push(word.to_owned());
                Ok::<_, String>(())
            };
            ours.split("a b", place, word).unwrap();
        }
        assert_eq!(found, ["\u{2581}a\u{2581}b", "a\u{2581}b"]);
    }
}
