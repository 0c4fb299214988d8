//! BPE models on long words: the library encodes overlapping windows, whose tokens are joined where it is proven that
//! the word has the same tokens.
//!
//! Let `encode(w)` be the tokens of a word. The library applies the merge of the lowest rank first, of these the
//! leftmost, until there is none, and a merge never takes back another one.
//!
//! 1. Tokens next to each other in `encode(w)` are the tokens of their text alone. No merge crosses their outer borders,
//!    so between these the same merges are possible at each time, and are applied in the same order.
//! 2. If any two neighbours in a list of tokens are the tokens of their text, then so is the whole list. Otherwise look
//!    at the first merge that crosses a border, of the tokens `x` and `y`. All merges before it are within tokens, so in
//!    the text of `x` and `y` alone the same merges come before it, and it is applied there, too.
//!
//! So two windows can be joined at a position where both have a border, if a token beside it is the same in both: by 1
//! it and its neighbour on the other side are the tokens of their text, and by 2 that suffices.
//!
//! Some models add a prefix to each character of a word but the first (`##`), or a suffix to the last one (`</w>`). The
//! characters and affixes are then what is merged, and 1 and 2 hold for them. The model takes the ends of a window for
//! ends of the word, so the token with the first or last character of a window may be a wrong one. Such tokens are
//! neither used nor compared, unless the window ends where the word does.

use super::Words;
use crate::bpe::BpeModel;
use crate::sink::{Sink, Stopped};
use crate::tables::model::WordToken;
use std::borrow::Cow;

/// Bytes of a window.
const WINDOW: usize = 16 * 1024;

/// Bytes that two windows have in common at least. Every token is shorter.
const OVERLAP: usize = 1024;

/// What the model does with an unknown character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    /// It becomes its bytes or one token.
    Kept,
    /// It and all unknown characters next to it become one token.
    Fused,
    /// It is left out.
    Removed,
}

/// Characters that the model treats as special.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SpecialEnds {
    /// The first one of a word, which has no prefix.
    first: bool,
    /// The last one, which has a suffix.
    last: bool,
}

/// A BPE model whose long words can be encoded in windows.
pub(crate) struct Merges {
    unknown: Unknown,
    ends: SpecialEnds,
}

/// Tokens of a part of a word.
struct Window {
    /// Where the first token begins in the word.
    start: usize,
    /// Where the window ends in the word.
    end: usize,
    /// With their places in the whole word.
    tokens: Vec<WordToken>,
}

impl Merges {
    /// Returns `None` for a model that has too long tokens or changes the order of unknown characters. Also for one that
    /// has affixes and does not make exactly one token of an unknown character: which characters are unknown then
    /// depends on their place in the word.
    pub fn new(bpe: &BpeModel) -> Option<Self> {
        let model = &bpe.settings;
        let affix = |affix: &Option<String>| affix.as_ref().is_some_and(|affix| !affix.is_empty());
        let ends = SpecialEnds {
            first: affix(&model.continuing_subword_prefix),
            last: affix(&model.end_of_word_suffix),
        };
        let has_one_unknown = !model.byte_fallback && model.unk_token.is_some() && !model.fuse_unk;
        if (ends.first || ends.last) && !has_one_unknown || bpe.max_chars * char::MAX.len_utf8() >= OVERLAP {
            return None;
        }
        let unknown = match (model.byte_fallback, model.unk_token.is_some(), model.fuse_unk) {
            (true, ..) if bpe.has_all_bytes => Unknown::Kept,
            (true, ..) => return None,
            (false, false, _) => Unknown::Removed,
            (false, true, true) => Unknown::Fused,
            (false, true, false) => Unknown::Kept,
        };
        Some(Self { unknown, ends })
    }

    /// Adds the ids of a word to `sink`.
    pub fn encode(&self, words: Words<'_>, word: &str, sink: &mut Sink<'_>) -> Result<(), Stopped> {
        let simple = self.simplify(words, word);
        if simple.len() < OVERLAP {
            // Such a short text could be a token although no merges lead to it (`ignore_merges`).
            let window = Window::read(words, word, 0, word.len())?;
            sink.extend(&window.ids());
            return sink.check();
        }
        let mut size = WINDOW;
        loop {
            if let Some(ids) = self.encode_in_windows(words, &simple, size, sink)? {
                sink.extend(&ids);
                return sink.check();
            }
            size *= 4;
        }
    }

    /// Removes or shortens what the model removes or fuses, so that the tokens cover the text.
    fn simplify<'a>(&self, words: Words<'_>, word: &'a str) -> Cow<'a, str> {
        let is_unknown = |char: char| !words.knows(char);
        if self.unknown == Unknown::Kept || !word.chars().any(is_unknown) {
            return Cow::Borrowed(word);
        }
        let mut after_unknown = false;
        let kept = word.chars().filter(|char| {
            let before = after_unknown;
            after_unknown = is_unknown(*char);
            !after_unknown || (self.unknown == Unknown::Fused && !before)
        });
        Cow::Owned(kept.collect())
    }

    /// Returns the ids of a word; `None` if windows of this size cannot be joined.
    fn encode_in_windows(
        &self,
        words: Words<'_>,
        word: &str,
        size: usize,
        sink: &Sink<'_>,
    ) -> Result<Option<Vec<u32>>, Stopped> {
        let mut ids = Vec::new();
        let mut window = Window::read(words, word, 0, size)?;
        while window.end < word.len() {
            sink.check()?;
            let Some(start) = window.resume(word) else {
                return Ok(None);
            };
            let mut next = Window::read(words, word, start, size)?;
            let Some((kept, skipped)) = window.join(&next, self.ends) else {
                return Ok(None);
            };
            window.tokens.truncate(kept);
            ids.extend(window.ids());
            next.tokens.drain(..skipped);
            window = next;
        }
        ids.extend(window.ids());
        Ok(Some(ids))
    }
}

impl Window {
    /// Encodes up to `size` bytes of a word.
    fn read(words: Words<'_>, word: &str, start: usize, size: usize) -> Result<Self, Stopped> {
        let mut end = word.len().min(start.saturating_add(size));
        while !word.is_char_boundary(end) {
            end -= 1;
        }
        let mut tokens = words.tokenize(&word[start..end])?;
        for token in &mut tokens {
            token.start += start;
            token.end += start;
        }
        Ok(Self { start, end, tokens })
    }

    fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.id).collect()
    }

    /// Returns the last border between characters and tokens that is not too close to the end of the window.
    fn resume(&self, word: &str) -> Option<usize> {
        let starts = self.tokens.iter().rev().map(|token| token.start);
        starts
            .skip_while(|start| start + OVERLAP > self.end)
            .find(|start| word.is_char_boundary(*start))
            .filter(|start| *start > self.start)
    }

    /// Finds the first border at which this window can end and the next one begin. Returns the number of tokens of this
    /// window before it, and the number of tokens of the next one before it.
    fn join(&self, next: &Self, ends: SpecialEnds) -> Option<(usize, usize)> {
        let own_tokens = &self.tokens[..self.tokens.len() - usize::from(ends.last && !self.tokens.is_empty())];
        let first = next.tokens.first()?.start;
        let mut kept = own_tokens.partition_point(|token| token.start < first);
        let mut skipped = 0;
        while let (Some(own), Some(other)) = (own_tokens.get(kept), next.tokens.get(skipped)) {
            if own.start < other.start {
                kept += 1;
            } else if own.start > other.start {
                skipped += 1;
            } else {
                // Tokens of the next window before this one are wrong and must be skipped.
                let wrong = usize::from(ends.first);
                let same_after = own == other && skipped >= wrong;
                let same_before = skipped > wrong && own_tokens[kept - 1] == next.tokens[skipped - 1];
                if same_after || same_before {
                    return Some((kept, skipped));
                }
                kept += 1;
                skipped += 1;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpe;
    use crate::sink::Wanted;
    use serde_json::json;
    use std::sync::atomic::AtomicBool;
    use tokenizers::models::bpe::BPE;
    use tokenizers::{Model, ModelWrapper};

    fn model(changes: serde_json::Value) -> (BpeModel, BPE) {
        let mut json = json!({
            "type": "BPE",
            "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "aa": 4, "aaaa": 5, "bc": 6, "abc": 7, "??": 8, "cab": 9, "aab": 10},
            "merges": [["b", "c"], ["a", "bc"], ["a", "a"], ["aa", "aa"], ["a", "b"], ["c", "ab"], ["aa", "b"]],
        });
        for (key, value) in changes.as_object().unwrap() {
            json[key] = value.clone();
        }
        bpe::read(&json.to_string()).unwrap()
    }

    #[test]
    fn windows_have_the_tokens_of_the_word() {
        for changes in [
            json!({}),
            json!({"unk_token": "??"}),
            json!({"unk_token": "??", "fuse_unk": true}),
            json!({"ignore_merges": true}),
        ] {
            let bpe = model(changes.clone());
            for part in [
                "a",
                "b",
                "ab",
                "aab",
                "abcaab",
                "abz",
                "zz",
                "aaaaaaabz",
                "cabab",
                "bca",
            ] {
                let text = [&part.repeat(3 * WINDOW / part.len()), "abc"].concat();
                assert_same_ids(&bpe, &text, &format!("{changes} {part}"));
            }
        }
    }

    /// Compares the ids of a word with those of the library for the whole word.
    fn assert_same_ids((bpe, model): &(BpeModel, BPE), word: &str, name: &str) {
        let wrapper = ModelWrapper::BPE(model.clone());
        let expected: Vec<u32> = wrapper.tokenize(word).unwrap().iter().map(|token| token.id).collect();
        let cancelled = AtomicBool::new(false);
        let mut sink = Sink::new(Wanted::ALL, &cancelled);
        Merges::new(bpe)
            .unwrap()
            .encode(Words::Library(&wrapper), word, &mut sink)
            .unwrap();
        assert!(sink.into_ids() == expected, "{name}");
    }

    /// Returns numbers below `end`, always the same ones for a seed.
    fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
        let mut state = seed;
        move |end| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % end
        }
    }

    /// A model with 60 merges of random tokens, in which the characters of a word have affixes.
    fn random_model(seed: u64, prefix: &str, suffix: &str) -> (BpeModel, BPE) {
        let mut number = numbers(seed);
        let (mut tokens, mut merges) = (vec!["??".to_owned()], Vec::new());
        for start in ["", prefix] {
            for end in ["", suffix] {
                tokens.extend(["a", "b", "c"].map(|char| [start, char, end].concat()));
            }
        }
        tokens.sort();
        tokens.dedup();
        while merges.len() < 60 {
            let (left, right) = (
                tokens[number(tokens.len())].clone(),
                tokens[number(tokens.len())].clone(),
            );
            let is_end = !suffix.is_empty() && left.ends_with(suffix);
            let Some(rest) = right
                .strip_prefix(prefix)
                .filter(|rest| !is_end && left != "??" && *rest != "??")
            else {
                continue;
            };
            let merged = [&left, rest].concat();
            if merged.len() < 40 && !tokens.contains(&merged) {
                merges.push([left, right]);
                tokens.push(merged);
            }
        }
        let vocabulary: serde_json::Map<_, _> = tokens.into_iter().zip((0..).map(|id: u32| json!(id))).collect();
        model(json!({
            "vocab": vocabulary,
            "merges": merges,
            "unk_token": "??",
            "continuing_subword_prefix": prefix,
            "end_of_word_suffix": suffix,
        }))
    }

    #[test]
    fn affixes_are_those_of_the_whole_word() {
        for (prefix, suffix) in [("", "</w>"), ("##", ""), ("##", "</w>")] {
            for seed in 0..4 {
                let bpe = random_model(seed, prefix, suffix);
                let mut number = numbers(seed + 100);
                let mut word = String::new();
                while word.len() < 5 * WINDOW / 2 {
                    let part: String = (0..1 + number(8)).map(|_| ["a", "b", "c", "z"][number(4)]).collect();
                    let most = [3, 3000][number(2)];
                    word += &part.repeat(1 + number(most));
                }
                assert_same_ids(&bpe, &word, &format!("seed {seed}, {prefix} {suffix}"));
            }
        }
    }

    #[test]
    fn models_whose_windows_cannot_be_joined_are_refused() {
        let suffix = |changes: serde_json::Value| {
            let mut json = json!({"end_of_word_suffix": "</w>", "unk_token": "??"});
            for (key, value) in changes.as_object().unwrap() {
                json[key] = value.clone();
            }
            json
        };
        for changes in [
            json!({"continuing_subword_prefix": "#", "merges": []}),
            json!({"end_of_word_suffix": "</w>"}),
            suffix(json!({"fuse_unk": true})),
            suffix(json!({"byte_fallback": true})),
            json!({"byte_fallback": true}),
            json!({"vocab": {"x".repeat(300): 0}, "merges": []}),
        ] {
            assert!(Merges::new(&model(changes.clone()).0).is_none(), "{changes}");
        }
        assert!(Merges::new(&model(json!({"end_of_word_suffix": ""})).0).is_some());
        assert!(Merges::new(&model(suffix(json!({}))).0).is_some());
    }
}
