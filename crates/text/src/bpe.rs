//! A BPE model, its vocabulary and its merges read side by side and straight into what the library wants.
//!
//! The library's own reader first makes a tree of all merges, since older files write them otherwise; with Gemma's
//! half a million that takes longer than everything else.

use serde::de::{self, DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;
use std::thread;
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

/// A model, and what its vocabulary says about lengths.
pub(crate) struct Read {
    pub model: BPE,
    /// Most characters of a piece.
    pub longest: usize,
    /// Every byte is a token, `<0x00>` to `<0xFF>`.
    pub all_bytes: bool,
}

/// Reads the model part of a tokenizer.json. `Err` holds the reason.
pub(crate) fn read(json: &str) -> Result<Read, String> {
    let file: File<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let ((vocab, longest, all_bytes), merges) = thread::scope(|scope| {
        let beside = scope.spawn(|| merges(file.merges.get()));
        let vocab = vocabulary(file.vocab.get());
        let merges = beside.join().map_err(|_| "its merges cannot be read".to_owned())?;
        Ok::<_, String>((vocab?, merges?))
    })?;
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
    Ok(Read {
        model: builder.build().map_err(|error| error.to_string())?,
        longest,
        all_bytes,
    })
}

fn vocabulary(json: &str) -> Result<(Vocab, usize, bool), String> {
    let vocab: Vocab = serde_json::from_str(json).map_err(|error| format!("vocab: {error}"))?;
    let longest = vocab.keys().map(|piece| piece.chars().count()).max().unwrap_or(0);
    let all_bytes = (0..=255u8).all(|byte| vocab.contains_key(&format!("<0x{byte:02X}>")));
    Ok((vocab, longest, all_bytes))
}

fn merges(json: &str) -> Result<Merges, String> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let merges = All.deserialize(&mut deserializer);
    merges.map_err(|error| format!("merges: {error}"))
}

/// All merges, each written as ["a", "b"] or as "a b".
struct All;

impl<'de> DeserializeSeed<'de> for All {
    type Value = Merges;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Merges, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for All {
    type Value = Merges;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of merges")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Merges, A::Error> {
        let mut merges = Merges::new();
        while let Some(merge) = items.next_element_seed(One)? {
            merges.extend(merge);
        }
        Ok(merges)
    }
}

/// One merge; none for the line that older files begin with.
struct One;

impl<'de> DeserializeSeed<'de> for One {
    type Value = Option<(String, String)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for One {
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
    fn it_reads_what_the_library_reads() {
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
    fn it_refuses_what_the_library_refuses() {
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
    fn it_knows_lengths() {
        let found = read(&model(&json!({"vocab": {"a": 0, "b": 1, "ab": 2, "äöü": 3}}))).unwrap();
        assert_eq!((found.longest, found.all_bytes), (3, false));
    }
}
