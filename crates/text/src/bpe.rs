//! Reader of BPE models. It parses vocabulary and merges in parallel and directly into the types of the `tokenizers`
//! library.
//!
//! The library's own reader first builds a JSON tree of all merges, because older files have another format. With the
//! half a million merges of Gemma that takes longer than everything else.

use crate::pair_set::PairSet;
use crate::parallel::join;
use serde::de::{self, DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;
use tokenizers::models::bpe::{BPE, Merges, Vocab};

#[derive(Deserialize)]
struct File<'a> {
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    fuse_unk: Option<bool>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
    #[serde(borrow)]
    vocab: &'a RawValue,
    #[serde(borrow)]
    merges: &'a RawValue,
}

/// A BPE model, and properties of its vocabulary.
pub(crate) struct BpeModel {
    pub model: BPE,
    /// Most characters of a piece.
    pub max_chars: usize,
    /// Whether every byte is a token, `<0x00>` to `<0xFF>`.
    pub has_all_bytes: bool,
    /// Pairs of adjacent characters in the tokens.
    pub pairs: PairSet,
    /// Whether a token has more characters than the byte token that it contains, so bytes may be merged.
    pub merges_bytes: bool,
}

impl BpeModel {
    /// Returns whether every character is a token or a sequence of byte tokens that no merge contains. A merge then
    /// depends on the characters of its token only.
    pub fn merges_characters(&self) -> bool {
        let model = &self.model;
        let affixes = model.continuing_subword_prefix.is_some() || model.end_of_word_suffix.is_some();
        model.byte_fallback && self.has_all_bytes && !self.merges_bytes && !affixes
    }
}

/// Reads the model of a tokenizer.json. `Err` is the reason why it cannot be read.
pub(crate) fn read(json: &str) -> Result<BpeModel, String> {
    let file: File<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let (merges, vocab) = join(|| merges(file.merges.get()), || vocabulary(file.vocab.get()));
    let ((vocab, properties), merges) = (vocab?, merges?);
    let mut builder = BPE::builder()
        .fuse_unk(file.fuse_unk.unwrap_or_default())
        .byte_fallback(file.byte_fallback.unwrap_or_default())
        .ignore_merges(file.ignore_merges.unwrap_or_default())
        .vocab_and_merges(vocab, merges);
    if let Some(dropout) = file.dropout {
        builder = builder.dropout(dropout);
    }
    if let Some(token) = file.unk_token {
        builder = builder.unk_token(token);
    }
    if let Some(prefix) = file.continuing_subword_prefix {
        builder = builder.continuing_subword_prefix(prefix);
    }
    if let Some(suffix) = file.end_of_word_suffix {
        builder = builder.end_of_word_suffix(suffix);
    }
    Ok(BpeModel {
        model: builder.build().map_err(|error| error.to_string())?,
        max_chars: properties.max_chars,
        has_all_bytes: properties.has_all_bytes,
        pairs: properties.pairs,
        merges_bytes: properties.merges_bytes,
    })
}

/// Properties of a vocabulary; see [`BpeModel`].
struct Properties {
    max_chars: usize,
    has_all_bytes: bool,
    pairs: PairSet,
    merges_bytes: bool,
}

/// Reads the vocabulary and its properties; see [`BpeModel`].
fn vocabulary(json: &str) -> Result<(Vocab, Properties), String> {
    let vocab: Vocab = serde_json::from_str(json).map_err(|error| format!("vocab: {error}"))?;
    // About 16 bits a token, so that few pairs are reported that no token has.
    let mut pairs = PairSet::new(usize::BITS - vocab.len().leading_zeros() + 4);
    for token in vocab.keys() {
        pairs.insert_all(token);
    }
    let properties = Properties {
        max_chars: vocab.keys().map(|piece| piece.chars().count()).max().unwrap_or(0),
        has_all_bytes: (0..=255u8).all(|byte| vocab.contains_key(&format!("<0x{byte:02X}>"))),
        merges_bytes: vocab.keys().any(|token| token.len() > 6 && token.contains("<0x")),
        pairs,
    };
    Ok((vocab, properties))
}

fn merges(json: &str) -> Result<Merges, String> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let merges = MergeList.deserialize(&mut deserializer);
    merges.map_err(|error| format!("merges: {error}"))
}

/// Deserializer of a list of merges, each written as ["a", "b"] or as "a b".
struct MergeList;

impl<'de> DeserializeSeed<'de> for MergeList {
    type Value = Merges;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Merges, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for MergeList {
    type Value = Merges;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of merges")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Merges, A::Error> {
        let mut merges = Merges::new();
        while let Some(merge) = items.next_element_seed(OneMerge)? {
            merges.extend(merge);
        }
        Ok(merges)
    }
}

/// Deserializer of one merge; `None` for the version line at the beginning of older files.
struct OneMerge;

impl<'de> DeserializeSeed<'de> for OneMerge {
    type Value = Option<(String, String)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OneMerge {
    type Value = Option<(String, String)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a merge, as [\"a\", \"b\"] or as \"a b\"")
    }

    fn visit_str<E: de::Error>(self, line: &str) -> Result<Self::Value, E> {
        if line.starts_with("#version") {
            return Ok(None);
        }
        match line.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => Ok(Some((left.to_owned(), right.to_owned()))),
            _ => Err(E::custom(format!("the merge {line:?} is not two pieces"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let left = items
            .next_element()?
            .ok_or_else(|| de::Error::invalid_length(0, &self))?;
        let right = items
            .next_element()?
            .ok_or_else(|| de::Error::invalid_length(1, &self))?;
        match items.next_element::<de::IgnoredAny>()? {
            None => Ok(Some((left, right))),
            Some(_) => Err(de::Error::invalid_length(3, &self)),
        }
    }
}
#[cfg(test)]
mod tests {
    use super::read;
    use serde_json::{Value, json};

    fn model(changes: &Value) -> String {
        let mut model = json!({
            "type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "??": 3}, "merges": [["a", "b"]], "unk_token": null,
        });
        for (key, value) in changes.as_object().unwrap() {
            model[key] = value.clone();
        }
        model.to_string()
    }

    #[test]
    fn valid_models_are_read_as_by_the_library() {
        for changes in [
            json!({}),
            json!({"merges": ["#version: 0.2", "a b"]}),
            json!({"merges": []}),
            json!({"unk_token": "??", "fuse_unk": true, "byte_fallback": true, "dropout": 0.0}),
            json!({"fuse_unk": null, "byte_fallback": null, "ignore_merges": true, "dropout": null}),
            json!({"continuing_subword_prefix": "", "end_of_word_suffix": "b", "vocab": {"b": 1, "a": 0, "ab": 7}}),
        ] {
            let json = model(&changes);
            assert!(
                read(&json).unwrap().model == serde_json::from_str(&json).unwrap(),
                "{json}"
            );
        }
    }

    #[test]
    fn models_that_the_library_refuses_are_refused() {
        for (changes, reason) in [
            (json!({"merges": ["a b c"]}), "not two pieces"),
            (json!({"merges": ["ab"]}), "not two pieces"),
            (json!({"merges": [["a"]]}), "invalid length"),
            (json!({"merges": [["a", "b", "c"]]}), "invalid length"),
            (json!({"merges": [3]}), "invalid type"),
            (json!({"merges": [["a", "z"]]}), "out of vocabulary"),
            (json!({"vocab": {"a": -1}}), "vocab"),
            (json!({"dropout": 2.0}), "Dropout"),
        ] {
            let json = model(&changes);
            assert!(
                serde_json::from_str::<tokenizers::models::bpe::BPE>(&json).is_err(),
                "{json}"
            );
            let found = read(&json).err().unwrap();
            assert!(found.contains(reason), "{json}: {found}");
        }
        let without = model(&json!({})).replace("merges", "others");
        assert!(read(&without).err().unwrap().contains("missing field"));
    }

    #[test]
    fn the_longest_piece_is_measured_in_characters() {
        let found = read(&model(&json!({"vocab": {"a": 0, "b": 1, "ab": 2, "äöü": 3}}))).unwrap();
        assert_eq!((found.max_chars, found.has_all_bytes), (3, false));
    }
}
