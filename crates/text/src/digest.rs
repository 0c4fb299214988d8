//! The digest of a tokenizer.json, which does not depend on its layout, the order of its keys, or the version of the
//! library that wrote it.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;

type Object<'a> = BTreeMap<String, &'a RawValue>;

/// Returns the SHA-256 digest of the canonical form of a tokenizer.json.
///
/// The canonical form omits what embergem does not read (`version`, `padding`, and `truncation` unless it truncates on
/// the left) and model options that are false or null, which older files do not have. A merge may be written as "a b"
/// or as a pair. People store fingerprints that contain this digest: the canonical form must not change.
pub(crate) fn digest(json: &str) -> Result<[u8; 32], serde_json::Error> {
    let mut file: Object<'_> = serde_json::from_str(json)?;
    for ignored in ["version", "padding"] {
        file.remove(ignored);
    }
    let truncation = file.remove("truncation");
    let mut canonical = Vec::new();
    for (key, value) in &file {
        let mut part = Vec::new();
        match key.as_str() {
            "model" => write_model(value, &mut part)?,
            _ => write(value, &mut part)?,
        }
        if part != b"null" {
            serde_json::to_writer(&mut canonical, key)?;
            canonical.extend([b':'].into_iter().chain(part).chain([b'\n']));
        }
    }
    if let Some(truncation) = truncation {
        let truncation: Option<Object<'_>> = serde_json::from_str(truncation.get())?;
        if truncation.is_some_and(|truncation| truncation.get("direction").is_some_and(|side| side.get() == "\"Left\""))
        {
            canonical.extend(b"cut on the left\n");
        }
    }
    Ok(Sha256::digest(&canonical).into())
}

/// Writes the canonical form of the model.
fn write_model(model: &RawValue, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let model: Object<'_> = serde_json::from_str(model.get())?;
    for (key, value) in model {
        if matches!(value.get(), "null" | "false") {
            continue;
        }
        serde_json::to_writer(&mut *out, &key)?;
        out.push(b':');
        if key == "merges" {
            let merges: Vec<Merge> = serde_json::from_str(value.get())?;
            for merge in merges {
                let (left, right) = merge.pair();
                out.extend(serde_json::to_vec(&[left, right])?);
            }
        } else {
            write(value, out)?;
        }
        out.push(b',');
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair([String; 2]),
    Line(String),
}

impl Merge {
    fn pair(&self) -> (&str, &str) {
        match self {
            Self::Pair([left, right]) => (left, right),
            Self::Line(line) => line.split_once(' ').unwrap_or((line, "")),
        }
    }
}

/// Writes the canonical form of any JSON value.
fn write(value: &RawValue, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    Canonical(out).deserialize(&mut serde_json::Deserializer::from_str(value.get()))
}

/// Serializer of the canonical form: no white space, keys in order, no keys with the value null. It builds no tree.
struct Canonical<'a>(&'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Canonical<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Canonical<'_> {
    fn scalar<E: serde::de::Error>(self, value: impl serde::Serialize) -> Result<(), E> {
        serde_json::to_writer(self.0, &value).map_err(E::custom)
    }
}

impl<'de> Visitor<'de> for Canonical<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.scalar(())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.push(b'[');
        while items.next_element_seed(Canonical(self.0))?.is_some() {
            self.0.push(b',');
        }
        self.0.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut parts = Vec::new();
        let mut values = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            let start = values.len();
            entries.next_value_seed(Canonical(&mut values))?;
            if &values[start..] != b"null" {
                parts.push((key, start..values.len()));
            }
        }
        parts.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.0.push(b'{');
        for (key, range) in parts {
            serde_json::to_writer(&mut *self.0, &key).map_err(A::Error::custom)?;
            self.0.push(b':');
            self.0.extend_from_slice(&values[range]);
            self.0.push(b',');
        }
        self.0.push(b'}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::digest;

    const FILE: &str = r#"{"version": "1.0", "truncation": null, "normalizer": {"type": "Replace", "by": "▁"},
        "added_tokens": [{"id": 0, "content": "<s>"}], "pre_tokenizer": null,
        "post_processor": {"type": "A", "trim": null},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"], "unk": 0.5}}"#;

    #[test]
    fn layout_and_options_that_are_off_do_not_change_the_digest() {
        let same = r#"{"added_tokens":[{"content":"<s>","id":0}],"padding":{"length":3},"truncation":{"direction":"Right"},
            "model":{"merges":[["a","b"]],"vocab":{"b":1,"ab":2,"a":0},"dropout":null,"byte_fallback":false,"type":"BPE",
            "unk":5e-1},"normalizer":{"by":"\u2581","type":"Replace"},
            "post_processor":{"type":"A"}}"#;
        assert_eq!(digest(FILE).unwrap(), digest(same).unwrap());
    }

    #[test]
    fn a_change_that_changes_ids_changes_the_digest() {
        for (from, to) in [
            ("\"b\": 1", "\"b\": 3"),
            ("\"ab\": 2", "\"abc\": 2"),
            ("a b", "b a"),
            ("▁", "_"),
            ("\"id\": 0", "\"id\": 9"),
            ("0.5", "0.25"),
            ("\"truncation\": null", "\"truncation\": {\"direction\": \"Left\"}"),
            ("\"merges\"", "\"ignore_merges\": true, \"merges\""),
            (
                "\"pre_tokenizer\": null",
                "\"pre_tokenizer\": {\"type\": \"Whitespace\"}",
            ),
        ] {
            let other = FILE.replace(from, to);
            assert_ne!(other, FILE);
            assert_ne!(digest(FILE).unwrap(), digest(&other).unwrap(), "{to}");
        }
    }

    #[test]
    fn invalid_json_is_refused() {
        assert!(digest("{\"model\": ").is_err());
        assert!(digest("[]").is_err());
    }
}
