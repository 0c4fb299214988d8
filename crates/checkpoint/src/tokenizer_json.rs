//! The parts of tokenizer.json that the files beside it can contradict.

use crate::TOKENIZER_BYTES;
use crate::error::Result;
use crate::json::{not_json, open};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::io::{BufReader, Read};
use std::path::Path;

/// The parts of tokenizer.json that settings can contradict.
#[derive(Debug, Default)]
pub(crate) struct Tokenizer {
    pub normalizer: Option<Value>,
    pub pre_tokenizer: Option<Value>,
    pub truncation: Option<Value>,
    pub added_tokens: Vec<AddedToken>,
    /// Kind of the model, such as "BPE".
    pub kind: Option<String>,
}

/// A token that is found in a text before the text is split.
#[derive(Debug, Deserialize)]
pub(crate) struct AddedToken {
    pub id: u64,
    pub content: String,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub single_word: bool,
}

impl Tokenizer {
    /// Reads a file as far as these parts go: the vocabulary, which stands after them in most files, is not read.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] for a file that is missing, too large, cannot be read, or is not JSON up to there.
    pub fn read(file: &Path) -> Result<Self> {
        let reader = BufReader::new(open(file, TOKENIZER_BYTES)?.take(TOKENIZER_BYTES));
        Self::parse(reader).map_err(|error| not_json(file, &error))
    }

    fn parse(reader: impl Read) -> serde_json::Result<Self> {
        let mut tokenizer = Self::default();
        let mut document = serde_json::Deserializer::from_reader(reader);
        let mut parts = Parts {
            tokenizer: &mut tokenizer,
            seen: 0,
            complete: false,
        };
        match parts.deserialize(&mut document) {
            Err(error) if !parts.complete => Err(error),
            _ => Ok(tokenizer),
        }
    }
}

/// Reads the parts into a tokenizer, and stops with an error and `complete` when it has all of them.
struct Parts<'a> {
    tokenizer: &'a mut Tokenizer,
    /// Parts that were read, besides the model.
    seen: usize,
    complete: bool,
}

/// Number of parts besides the model.
const PARTS: usize = 4;

impl<'de> DeserializeSeed<'de> for &mut Parts<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Parts<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let tokenizer = &mut *self.tokenizer;
            match name.as_str() {
                "normalizer" => tokenizer.normalizer = map.next_value()?,
                "pre_tokenizer" => tokenizer.pre_tokenizer = map.next_value()?,
                "truncation" => tokenizer.truncation = map.next_value()?,
                "added_tokens" => tokenizer.added_tokens = map.next_value::<Option<_>>()?.unwrap_or_default(),
                "model" => {
                    let (kind, last) = (&mut tokenizer.kind, self.seen == PARTS);
                    map.next_value_seed(Kind {
                        kind,
                        last,
                        complete: &mut self.complete,
                    })?;
                    continue;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            }
            self.seen += 1;
        }
        Ok(())
    }
}

/// Reads the kind of the model. If the model is the last part, what follows its kind is not read.
struct Kind<'a> {
    kind: &'a mut Option<String>,
    last: bool,
    complete: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for Kind<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Kind<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name != "type" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            *self.kind = map.next_value()?;
            if self.last {
                *self.complete = true;
                return Err(A::Error::custom("all parts are read"));
            }
        }
        Ok(())
    }
}

impl Tokenizer {
    /// Whether `test` holds for a part, or for one in its sequence.
    pub fn has(&self, part: &Option<Value>, test: fn(&Value) -> bool) -> bool {
        part.as_ref().is_some_and(|part| inside(part).any(test))
    }

    /// Whether several spaces are read as one, in one of the ways in which tokenizers of this kind were saved.
    pub fn joins_spaces(&self) -> bool {
        self.has(&self.pre_tokenizer, |part| part["type"] == "WhitespaceSplit")
            || self.has(&self.normalizer, |part| part["pattern"]["Regex"] == " {2,}")
    }

    /// Whether a space is added before a text; none if no part says.
    pub fn prefix_space(&self) -> Option<bool> {
        let found = self
            .pre_tokenizer
            .iter()
            .flat_map(inside)
            .find_map(|part| match part["type"].as_str() {
                Some("ByteLevel") => part["add_prefix_space"].as_bool(),
                Some("Metaspace") => Some(part["prepend_scheme"] != "never" && part["add_prefix_space"] != false),
                _ => None,
            });
        found.or_else(|| {
            self.has(&self.normalizer, |part| part["type"] == "Prepend")
                .then_some(true)
        })
    }
}

/// A normalizer or pre-tokenizer, or those in it if it is a sequence.
fn inside(part: &Value) -> impl Iterator<Item = &Value> {
    let inside = ["normalizers", "pretokenizers"]
        .iter()
        .find_map(|name| part[*name].as_array());
    inside.map_or(std::slice::from_ref(part), Vec::as_slice).iter()
}

#[cfg(test)]
mod tests {
    use super::Tokenizer;

    fn read(text: &str) -> serde_json::Result<Tokenizer> {
        Tokenizer::parse(text.as_bytes())
    }

    const HEAD: &str = r#""truncation": null, "normalizer": {"type": "NFC"}, "pre_tokenizer": null,
        "added_tokens": [{"id": 3, "content": "<s>", "lstrip": true, "special": true}]"#;

    #[test]
    fn parts_are_read_in_any_order() {
        let model = r#""model": {"vocab": {"a": 1}, "type": "BPE", "merges": []}"#;
        for text in [format!("{{{HEAD}, {model}}}"), format!("{{{model}, {HEAD}}}")] {
            let tokenizer = read(&text).unwrap();
            assert_eq!(tokenizer.kind.as_deref(), Some("BPE"));
            assert_eq!(tokenizer.normalizer.unwrap()["type"], "NFC");
            let [token] = &tokenizer.added_tokens[..] else { panic!() };
            assert_eq!(
                (token.id, token.content.as_str(), token.lstrip, token.rstrip),
                (3, "<s>", true, false)
            );
        }
    }

    #[test]
    fn the_vocabulary_is_not_read() {
        let text = format!(r#"{{{HEAD}, "model": {{"type": "BPE", "vocab": not JSON"#);
        assert_eq!(read(&text).unwrap().kind.as_deref(), Some("BPE"));
    }

    #[test]
    fn damage_before_the_vocabulary_is_an_error() {
        for text in ["", "[]", "{", r#"{"model": 1}"#, r#"{"added_tokens": [{"id": -1}]}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
