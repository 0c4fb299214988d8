//! The fields of config.json that a program card does not read: those known to change nothing, and an error for all
//! others. `src/embergem/models/unread.py` decides in the same way, with the same words and the same list.

use crate::cards::{Condition, equal};
use crate::error::{Error, Result};
use embergem_checkpoint::json::brief;
use embergem_checkpoint::matches;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::OnceLock;

/// The field that names code in the checkpoint's repository.
pub(crate) const REMOTE_CODE: &str = "auto_map";

/// Fields that change nothing while they have one of `values`; any value, if there are none.
#[derive(Deserialize)]
struct Inert {
    reason: String,
    fields: Vec<String>,
    values: Option<Vec<Value>>,
}

/// Refuses a config.json with a field that no condition is about and that is not inert.
///
/// # Errors
/// [`Error::UnsupportedModel`] names the first such field.
pub(crate) fn require_all_read(config: &Value, read: &[Condition], model_type: &str) -> Result<()> {
    let fields = config.as_object().into_iter();
    fields
        .flatten()
        .try_for_each(|(name, value)| check(&[name], value, read, model_type))
}

fn check(path: &[&str], value: &Value, read: &[Condition], model_type: &str) -> Result<()> {
    let about = |condition: &&Condition| condition.path.iter().eq(path.iter());
    let mut conditions = read.iter().filter(about).peekable();
    if conditions.peek().is_none() {
        return require_inert(path, value, model_type);
    }
    match value {
        Value::Object(inside) if conditions.all(|condition| condition.object) => {
            check_inside(path, inside, read, model_type)
        }
        _ => Ok(()), // compared whole
    }
}

fn check_inside(path: &[&str], fields: &Map<String, Value>, read: &[Condition], model_type: &str) -> Result<()> {
    for (name, value) in fields {
        check(&[path, &[name.as_str()]].concat(), value, read, model_type)?;
    }
    Ok(())
}

fn require_inert(path: &[&str], value: &Value, model_type: &str) -> Result<()> {
    let (field, shown) = (path.join("."), brief(value));
    let name = path.last().copied().unwrap_or_default();
    if name == REMOTE_CODE {
        if value.is_null() || value.as_object().is_some_and(Map::is_empty) {
            return Ok(());
        }
        return Err(remote_code(&format!("config.json: {field}"), &shown, model_type));
    }
    let Some(inert) = listed()
        .iter()
        .find(|one| one.fields.iter().any(|pattern| matches(pattern, name)))
    else {
        return Err(Error::UnsupportedModel(format!(
            "config.json: {field} is {shown}. embergem does not know this field of a {model_type} model, so it cannot \
             tell whether the field changes the vectors. If it changes nothing, remove it from config.json; otherwise \
             the model needs the library that wrote it."
        )));
    };
    match &inert.values {
        Some(values) if !values.iter().any(|allowed| equal(allowed, value)) => {
            let allowed: Vec<_> = values.iter().map(Value::to_string).collect();
            Err(Error::UnsupportedModel(format!(
                "config.json: {field} is {shown}; embergem supports {} here ({}).",
                allowed.join(" or "),
                inert.reason
            )))
        }
        _ => Ok(()),
    }
}

/// The error for code that comes with a model. `place` is the file and the field, `code` what it names.
pub(crate) fn remote_code(place: &str, code: &str, model_type: &str) -> Error {
    Error::UnsupportedModel(format!(
        "{place} names code that comes with the model, {code}. embergem never runs such code, and the code may compute \
         another model than transformers' own {model_type}. If both give the same vectors, remove the field."
    ))
}

fn listed() -> &'static [Inert] {
    static LIST: OnceLock<Vec<Inert>> = OnceLock::new();
    LIST.get_or_init(|| {
        let text = include_str!("../../../src/embergem/models/inert.json");
        serde_json::from_str(text).expect("a test of the Python package parses this file")
    })
}
