//! The programs that this crate carries: cards of published models, made from the Python models by `make programs`.
//!
//! A card says under which conditions on its fields a config.json describes the model. Conditions are compared, nothing
//! about a family is known here; a checkpoint that meets none needs a card of its own, from `embergem compile`.

use crate::checkpoint::Module;
use crate::checkpoint::json::brief;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::path::Path;

const CARDS: &[&str] = include!("../programs/table.rs");

/// What has to be known of a model besides its files.
#[derive(Deserialize)]
pub(crate) struct Card<'a> {
    /// Identifies the program.
    pub key: String,
    /// Hub ids of models that it was made for.
    #[serde(default)]
    pub models: Vec<String>,
    /// `model_type` of config.json.
    pub model_type: String,
    spellings: Vec<Vec<Condition>>,
    head: Vec<Module>,
    /// Token ids are below this.
    pub vocab_size: u32,
    /// Tokens that a position table covers.
    pub places: Option<usize>,
    /// Sizes that vectors can be cut to, as ranges (first, last), smallest first.
    pub smaller: Vec<(usize, usize)>,
    /// A layer norm comes before such a cut.
    pub norm_before_cut: bool,
    /// Texts get no special tokens and lose unknown ones.
    pub bare: bool,
    /// A set of prompts in crates/text.
    pub builtin_prompts: Option<String>,
    /// For the executor, as JSON.
    #[serde(borrow)]
    pub program: &'a RawValue,
}

/// What a field of config.json must be.
#[derive(Deserialize)]
struct Condition {
    path: Vec<String>,
    #[serde(default)]
    values: Vec<Value>,
    #[serde(default)]
    absent: bool,
    #[serde(default)]
    object: bool,
}

impl Condition {
    fn holds(&self, config: &Value) -> bool {
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

    /// For an error: the field, what it should be and what it is.
    fn explain(&self, config: &Value) -> String {
        let pointer = format!("/{}", self.path.join("/"));
        let found = config.pointer(&pointer).map_or("absent".to_owned(), brief);
        let wanted = self.values.first().map_or("an object".to_owned(), brief);
        format!("{} is {found} and not {wanted}", self.path.join("."))
    }
}

/// Equal values; numbers also when one is written as a float and the other not, as libraries do.
fn equal(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => wanted == found,
    }
}

impl Card<'_> {
    /// Parses the text of a card; `whose` names it in errors.
    pub fn parse<'a>(text: &'a str, whose: &Path) -> Result<Card<'a>> {
        serde_json::from_str(text).map_err(|error| Error::CorruptCheckpoint(format!("{}: {error}", whose.display())))
    }

    /// The fewest conditions that a config.json fails in any spelling.
    fn failed(&self, config: &Value) -> Vec<&Condition> {
        let spellings = self.spellings.iter();
        let failed = spellings.map(|conditions| conditions.iter().filter(|one| !one.holds(config)).collect::<Vec<_>>());
        failed.min_by_key(Vec::len).unwrap_or_default()
    }
}

/// Finds the card of a checkpoint by its config.json and its head.
///
/// # Errors
/// [`Error::UnsupportedModel`] where there is none, with what the nearest one would need.
pub(crate) fn find(config: &Value, head: &[Module], directory: &Path) -> Result<Card<'static>> {
    let cards = CARDS.iter().map(|text| Card::parse(text, Path::new("programs")));
    let cards = cards.collect::<Result<Vec<_>>>()?;
    let model_type = config["model_type"].as_str().unwrap_or_default();
    let mut nearest: Option<(usize, String)> = None;
    for card in cards {
        let failed = card.failed(config);
        let other_head = card.head != head;
        if failed.is_empty() && !other_head {
            return Ok(card);
        }
        let distance = failed.len() + usize::from(other_head);
        if card.model_type == model_type && nearest.as_ref().is_none_or(|(least, _)| distance < *least) {
            let mut reasons: Vec<_> = failed.iter().map(|one| one.explain(config)).collect();
            if other_head {
                reasons.push(format!("modules.json asks for {head:?} and not {:?}", card.head));
            }
            let of = card.models.first().map_or(card.key.as_str(), String::as_str);
            nearest = Some((
                distance,
                format!(" The nearest is that of {of}, but {}.", reasons.join(", ")),
            ));
        }
    }
    let nearest = nearest.map_or_else(String::new, |(_, text)| text);
    Err(Error::UnsupportedModel(format!(
        "{}: this crate carries no program for this {model_type:?} config.{nearest} Make one with `embergem compile` (of \
         the Python package) and load the directory that it writes",
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
    fn every_card_parses_and_no_two_have_one_key() {
        let mut keys: Vec<_> = CARDS
            .iter()
            .map(|text| Card::parse(text, Path::new("")).unwrap().key)
            .collect();
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
    fn a_config_without_a_program_is_told_what_the_nearest_needs() {
        let card = CARDS.iter().map(|text| Card::parse(text, Path::new("")).unwrap());
        let card = card
            .into_iter()
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
