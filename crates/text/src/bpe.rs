//! Readers of BPE models. [`read_tables`] parses vocabulary and merges directly into tables, and [`read`] in parallel and
//! directly into the types of the `tokenizers` library.
//!
//! The library's own reader first builds a JSON tree of all merges, because older files have another format. With the
//! half a million merges of Gemma that takes longer than everything else.

use crate::pair_set::PairSet;
use crate::parallel::join;
use crate::tables::{self, Tables};
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeSet;
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

impl File<'_> {
    fn settings(&self) -> Settings {
        Settings {
            dropout: self.dropout,
            unk_token: self.unk_token.clone(),
            continuing_subword_prefix: self.continuing_subword_prefix.clone(),
            end_of_word_suffix: self.end_of_word_suffix.clone(),
            fuse_unk: self.fuse_unk.unwrap_or_default(),
            byte_fallback: self.byte_fallback.unwrap_or_default(),
            ignore_merges: self.ignore_merges.unwrap_or_default(),
        }
    }
}

/// What a BPE model does, besides its vocabulary and its merges.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub dropout: Option<f32>,
    pub unk_token: Option<String>,
    pub continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    pub fuse_unk: bool,
    pub byte_fallback: bool,
    pub ignore_merges: bool,
}

impl Settings {
    /// Returns whether [`crate::tables::model::TableModel`] can apply these settings.
    pub fn fits_tables(&self) -> bool {
        self.dropout.is_none_or(|probability| probability == 0.0)
            && self.continuing_subword_prefix.is_none()
            && self.end_of_word_suffix.is_none()
    }
}

/// The settings of a BPE model, and properties of its vocabulary.
pub(crate) struct BpeModel {
    pub settings: Settings,
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
    pub fn new(settings: Settings, properties: Properties) -> Self {
        Self {
            settings,
            max_chars: properties.max_chars,
            has_all_bytes: properties.has_all_bytes,
            pairs: properties.pairs,
            merges_bytes: properties.merges_bytes,
        }
    }

    /// Returns whether every character is a token or a sequence of byte tokens that no merge contains. A merge then
    /// depends on the characters of its token only.
    pub fn merges_characters(&self) -> bool {
        let settings = &self.settings;
        let affixes = settings.continuing_subword_prefix.is_some() || settings.end_of_word_suffix.is_some();
        settings.byte_fallback && self.has_all_bytes && !self.merges_bytes && !affixes
    }
}

/// Reads the model of a tokenizer.json for the library. `Err` is the reason why it cannot be read.
pub(crate) fn read(json: &str) -> Result<(BpeModel, BPE), String> {
    let file: File<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let (merges, vocab) = join(|| merges(file.merges.get()), || vocabulary(file.vocab.get()));
    let (vocab, merges) = (vocab?, merges?);
    let properties = Properties::of(vocab.len(), || vocab.keys().map(String::as_str));
    let settings = file.settings();
    let mut builder = BPE::builder()
        .fuse_unk(settings.fuse_unk)
        .byte_fallback(settings.byte_fallback)
        .ignore_merges(settings.ignore_merges)
        .vocab_and_merges(vocab, merges);
    if let Some(dropout) = settings.dropout {
        builder = builder.dropout(dropout);
    }
    if let Some(token) = settings.unk_token.clone() {
        builder = builder.unk_token(token);
    }
    if let Some(prefix) = settings.continuing_subword_prefix.clone() {
        builder = builder.continuing_subword_prefix(prefix);
    }
    if let Some(suffix) = settings.end_of_word_suffix.clone() {
        builder = builder.end_of_word_suffix(suffix);
    }
    let model = builder.build().map_err(|error| error.to_string())?;
    Ok((BpeModel::new(settings, properties), model))
}

/// The model of a tokenizer.json in tables.
pub(crate) struct TableParts<'a> {
    pub settings: Settings,
    pub properties: Properties,
    pub tables: Tables,
    /// Vocabulary and merges as they are in the text.
    pub texts: [&'a str; 2],
}

/// Reads the model of a tokenizer.json into tables; `None` if tables do not fit its settings. `Err` is the reason why it
/// cannot be read.
pub(crate) fn read_tables(json: &str) -> Result<Option<TableParts<'_>>, String> {
    let file: File<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let settings = file.settings();
    if !settings.fits_tables() {
        return Ok(None);
    }
    let mut deserializer = serde_json::Deserializer::from_str(file.vocab.get());
    let vocabulary = deserializer.deserialize_map(VocabularyMap);
    let vocabulary = vocabulary.map_err(|error| format!("vocab: {error}"))?;
    let mut merges = tables::Merges::new();
    let mut joined = Vec::new();
    each_merge(file.merges.get(), |left, right| {
        joined.clear();
        joined.extend_from_slice(left.as_bytes());
        joined.extend_from_slice(right.as_bytes());
        let id = |token: &[u8]| {
            let missing = || format!("Token `{}` out of vocabulary", String::from_utf8_lossy(token));
            vocabulary.get(token).ok_or_else(missing)
        };
        let added = merges.push(id(left.as_bytes())?, id(right.as_bytes())?, id(&joined)?);
        added.ok_or_else(|| "there are more than 16 million".to_owned())
    })?;
    let properties = Properties::of(vocabulary.len(), || vocabulary.iter().map(|(token, _)| token));
    Ok(Some(TableParts {
        settings,
        properties,
        tables: Tables { vocabulary, merges },
        texts: [file.vocab.get(), file.merges.get()],
    }))
}

/// Reads the settings of the model of a tokenizer.json.
pub(crate) fn read_settings(json: &str) -> Result<Settings, String> {
    let file: File<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    Ok(file.settings())
}

/// Properties of a vocabulary; see [`BpeModel`].
pub(crate) struct Properties {
    pub max_chars: usize,
    pub has_all_bytes: bool,
    pub pairs: PairSet,
    pub merges_bytes: bool,
}

impl Properties {
    fn of<'a, Tokens: Iterator<Item = &'a str>>(count: usize, tokens: impl Fn() -> Tokens) -> Self {
        // About 16 bits a token, so that few pairs are reported that no token has.
        let mut pairs = PairSet::new(usize::BITS - count.leading_zeros() + 4);
        let (mut max_chars, mut merges_bytes) = (0, false);
        let mut bytes = BTreeSet::new();
        for token in tokens() {
            pairs.insert_all(token);
            max_chars = max_chars.max(token.chars().count());
            if token.contains("<0x") {
                merges_bytes |= token.len() > 6;
                bytes.insert(token);
            }
        }
        Self {
            max_chars,
            has_all_bytes: (0..=255_u8).all(|byte| bytes.contains(&*format!("<0x{byte:02X}>"))),
            merges_bytes,
            pairs,
        }
    }
}

fn vocabulary(json: &str) -> Result<Vocab, String> {
    serde_json::from_str(json).map_err(|error| format!("vocab: {error}"))
}

fn merges(json: &str) -> Result<Merges, String> {
    let mut merges = Merges::new();
    each_merge(json, |left, right| {
        merges.push((left.to_owned(), right.to_owned()));
        Ok(())
    })?;
    Ok(merges)
}

/// Calls `next` with the two parts of each merge.
fn each_merge(json: &str, next: impl FnMut(&str, &str) -> Result<(), String>) -> Result<(), String> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let done = deserializer.deserialize_seq(MergeList(next));
    done.map_err(|error| format!("merges: {error}"))
}

/// A string of the file, copied only if it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads a vocabulary into a table.
struct VocabularyMap;

impl<'de> Visitor<'de> for VocabularyMap {
    type Value = tables::Vocabulary;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut vocabulary = tables::Vocabulary::new();
        while let Some((Text(token), id)) = items.next_entry()? {
            let inserted = vocabulary.insert(&token, id);
            inserted.ok_or_else(|| de::Error::custom("there are more than 16 million tokens"))?;
        }
        Ok(vocabulary)
    }
}

/// Reads a list of merges, each written as ["a", "b"] or as "a b", and passes them to a function.
struct MergeList<F>(F);

impl<'de, F: FnMut(&str, &str) -> Result<(), String>> Visitor<'de> for MergeList<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of merges")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(OneMerge(&mut self.0))?.is_some() {}
        Ok(())
    }
}

/// Reader of one merge. The version line at the beginning of older files is none.
struct OneMerge<'f, F>(&'f mut F);

impl<'de, F: FnMut(&str, &str) -> Result<(), String>> DeserializeSeed<'de> for OneMerge<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(&str, &str) -> Result<(), String>> Visitor<'de> for OneMerge<'_, F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a merge, as [\"a\", \"b\"] or as \"a b\"")
    }

    fn visit_str<E: de::Error>(self, line: &str) -> Result<(), E> {
        if line.starts_with("#version") {
            return Ok(());
        }
        match line.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => (self.0)(left, right).map_err(E::custom),
            _ => Err(E::custom(format!("the merge {line:?} is not two pieces"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Text(left) = items
            .next_element()?
            .ok_or_else(|| de::Error::invalid_length(0, &self))?;
        let Text(right) = items
            .next_element()?
            .ok_or_else(|| de::Error::invalid_length(1, &self))?;
        if items.next_element::<de::IgnoredAny>()?.is_some() {
            return Err(de::Error::invalid_length(3, &self));
        }
        (self.0)(&left, &right).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{read, read_tables};
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
            assert!(read(&json).unwrap().1 == serde_json::from_str(&json).unwrap(), "{json}");
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
            match read_tables(&json) {
                Err(found) => assert!(found.contains(reason), "{json}: {found}"),
                // The library is to refuse it.
                Ok(found) => assert!(found.is_none() && reason == "Dropout", "{json}"),
            }
        }
        let without = model(&json!({})).replace("merges", "others");
        assert!(read(&without).err().unwrap().contains("missing field"));
        assert!(read_tables(&without).err().unwrap().contains("missing field"));
    }

    #[test]
    fn the_longest_piece_is_measured_in_characters() {
        let json = model(&json!({"vocab": {"a": 0, "b": 1, "ab": 2, "äöü": 3}}));
        let (found, _) = read(&json).unwrap();
        assert_eq!((found.max_chars, found.has_all_bytes), (3, false));
    }
}
