//! The program cards that this crate contains: those of published models, and of the checkpoints of the tests.
//!
//! `make programs` writes them from the Python models. A card lists conditions on the fields of config.json; a config.json
//! that meets them describes the model of the card. The comparison knows nothing about model families. A checkpoint that
//! meets no card needs a directory that `embergem compile` writes.

use crate::error::{Error, Result};
use crate::unread;
use embergem_checkpoint::Module;
use embergem_checkpoint::json::brief;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::path::Path;

const CARDS: &[&str] = include!("../programs/table.rs");

/// What is known about a model besides its files. `src/embergem/program/card.py` documents the fields.
#[derive(Deserialize)]
pub(crate) struct Card<'a> {
    /// Identifies the program.
    pub key: String,
    /// Hub ids of the models that have this program.
    #[serde(default)]
    pub models: Vec<String>,
    /// `model_type` of config.json, in its canonical spelling.
    pub model_type: String,
    spellings: Vec<Vec<Condition>>,
    head: Vec<Module>,
    /// Width of the hidden states that are pooled; none if the family does not say.
    pub width: Option<usize>,
    /// Number of token ids.
    pub vocab_size: u32,
    /// Tokens that a position table covers.
    pub places: Option<usize>,
    /// Fields of the family's config that the self-check compares with the catalog.
    pub config: Map<String, Value>,
    /// Roles of the tokens around every text: "opening", "closing". Without any, unknown tokens are removed.
    pub special_tokens: Vec<String>,
    /// A model without special tokens keeps unknown tokens.
    #[serde(default)]
    pub keep_unknown: bool,
    /// Set of prompts in crates/text.
    pub builtin_prompts: Option<String>,
    /// The program, as JSON.
    #[serde(borrow)]
    pub program: &'a RawValue,
}

/// A condition on one field of config.json.
#[derive(Deserialize)]
pub(crate) struct Condition {
    pub path: Vec<String>,
    #[serde(default)]
    values: Vec<Value>,
    #[serde(default)]
    absent: bool,
    #[serde(default)]
    pub object: bool,
    #[serde(default)]
    any: bool,
}

impl Condition {
    fn holds(&self, config: &Value) -> bool {
        if self.any {
            return true;
        }
        let found = self
            .path
            .iter()
            .try_fold(config, |value, name| value.as_object()?.get(name));
        match found {
            None => self.absent,
            Some(value) if self.object => value.is_object(),
            Some(value) => self.values.iter().any(|wanted| equal(wanted, value)),
        }
    }

    /// Describes a field that does not meet the condition.
    fn explain(&self, config: &Value) -> String {
        let pointer = format!("/{}", self.path.join("/"));
        let found = config.pointer(&pointer).map_or("absent".to_owned(), brief);
        let wanted = self.values.first().map_or("an object".to_owned(), brief);
        format!("{} is {found} and not {wanted}", self.path.join("."))
    }
}

/// Whether two values are equal. Libraries write whole numbers as integers or as floats, so numbers are compared by value.
pub(crate) fn equal(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => wanted == found,
    }
}

impl Card<'_> {
    /// The conditions that a config.json does not meet, in the spelling with the fewest.
    fn failed(&self, config: &Value) -> Vec<&Condition> {
        let spellings = self.spellings.iter();
        let failed = spellings.map(|conditions| conditions.iter().filter(|one| !one.holds(config)).collect::<Vec<_>>());
        failed.min_by_key(Vec::len).unwrap_or_default()
    }

    /// Whether a config.json of this `model_type` can be one of the card's family.
    fn may_have(&self, model_type: &str) -> bool {
        let names = |one: &Condition| one.path == ["model_type"] && one.values.iter().any(|value| value == model_type);
        self.model_type == model_type || self.spellings.iter().flatten().any(names)
    }
}

/// All cards of this crate.
fn cards() -> impl Iterator<Item = Card<'static>> {
    let parse = |text: &&'static str| serde_json::from_str(text).expect("a test of this crate parses every card");
    CARDS.iter().map(parse)
}

/// The roles of the tokens that a family puts around every text; none if no card is of the family.
pub(crate) fn special_tokens(model_type: &str) -> Vec<String> {
    let mut of_family = cards().filter(|card| card.model_type == model_type);
    of_family.next().map_or_else(Vec::new, |card| card.special_tokens)
}

/// The canonical spelling of a `model_type` of config.json; an unknown one is returned as it is.
pub(crate) fn canonical_model_type(model_type: &str) -> String {
    let found: Vec<_> = cards().filter(|card| card.may_have(model_type)).collect();
    let canonical = found.iter().any(|card| card.model_type == model_type);
    match found.into_iter().next() {
        Some(card) if !canonical => card.model_type,
        _ => model_type.to_owned(),
    }
}

/// Returns the card of a checkpoint with this config.json and this head.
///
/// # Errors
/// [`Error::UnsupportedModel`] if there is none; the message names the fields in which the most similar card differs.
pub(crate) fn find(config: &Value, head: &[Module], directory: &Path) -> Result<Card<'static>> {
    let model_type = config["model_type"].as_str().unwrap_or_default();
    let mut nearest: Option<(usize, String)> = None;
    let mut unread = None;
    for card in cards() {
        let failed = card.failed(config);
        let other_head = card.head != head;
        if failed.is_empty() && !other_head {
            let met = card
                .spellings
                .iter()
                .filter(|conditions| conditions.iter().all(|one| one.holds(config)));
            let checked = met.map(|conditions| unread::require_all_read(config, conditions, &card.model_type));
            match checked.reduce(|first, other| first.or(other)) {
                Some(Err(error)) => unread = Some(error),
                _ => return Ok(card),
            }
            continue;
        }
        let distance = failed.len() + usize::from(other_head);
        if card.may_have(model_type) && nearest.as_ref().is_none_or(|(least, _)| distance < *least) {
            let mut reasons: Vec<_> = failed.iter().map(|one| one.explain(config)).collect();
            if other_head {
                reasons.push(format!("modules.json lists {head:?} and not {:?}", card.head));
            }
            let of = card.models.first().map_or(card.key.as_str(), String::as_str);
            nearest = Some((
                distance,
                format!(" The most similar program is that of {of}, but {}.", reasons.join(", ")),
            ));
        }
    }
    if let Some(error) = unread {
        return Err(error);
    }
    let nearest = nearest.map_or_else(String::new, |(_, text)| text);
    Err(Error::UnsupportedModel(format!(
        "{}: this crate has no program for this config.json of the model type {model_type:?}.{nearest} Compile the model \
         with `embergem compile` of the Python package, and load the directory that it writes.",
        directory.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn condition(text: Value) -> Condition {
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn other_spellings_of_a_model_type_are_known() {
        for (found, canonical) in [
            ("new", "gte"),
            ("gte", "gte"),
            ("embedding_gemma2_text", "embedding_gemma2"),
            ("gemma3_text", "gemma3_text"),
            ("unknown", "unknown"),
        ] {
            assert_eq!(canonical_model_type(found), canonical);
        }
    }

    #[test]
    fn every_card_parses_and_no_two_of_a_family_have_one_key() {
        let mut keys: Vec<_> = cards().map(|card| (card.model_type, card.key)).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), CARDS.len());
    }

    #[test]
    fn conditions_are_about_values_absence_and_kind() {
        let eps = condition(json!({"path": ["eps"], "values": [1.0, null], "absent": true}));
        for (config, holds) in [
            (json!({"eps": 1}), true),
            (json!({"eps": 1.0}), true),
            (json!({"eps": null}), true),
            (json!({}), true),
            (json!({"eps": 2}), false),
            (json!({"eps": "1"}), false),
            (json!({"eps": true}), false),
        ] {
            assert_eq!(eps.holds(&config), holds, "{config}");
        }
        let nested = condition(json!({"path": ["a", "b"], "object": true}));
        assert!(nested.holds(&json!({"a": {"b": {}}})));
        assert!(!nested.holds(&json!({"a": {"b": 1}})));
        assert!(!nested.holds(&json!({"a": 1})));
    }

    #[test]
    fn the_error_for_an_unknown_config_names_the_field_that_differs() {
        let card = cards()
            .find(|card| card.models[0].ends_with("all-MiniLM-L6-v2"))
            .unwrap();
        let config = json!({"model_type": "bert", "vocab_size": 30522, "hidden_size": 384, "intermediate_size": 1536,
            "num_attention_heads": 12, "num_hidden_layers": 6, "max_position_embeddings": 512});
        let found = |config: &Value| find(config, &card.head, Path::new("here"));
        assert_eq!(found(&config).unwrap().key, card.key);
        let mut other = config;
        other["num_hidden_layers"] = json!(7);
        let message = found(&other).err().unwrap().to_string();
        assert!(message.contains("num_hidden_layers is 7 and not "), "{message}");
        assert!(message.contains("embergem compile"), "{message}");
    }
}
