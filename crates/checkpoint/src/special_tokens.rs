//! Special tokens that files beside tokenizer.json name.
//!
//! The published library makes a token of each of these names: it finds the name in a text before it splits the text.
//! embergem reads tokenizer.json alone, so the name must be one of its added tokens.

use crate::error::{Result, unsupported};
use crate::json::Object;
use crate::settings::matches;
use crate::tokenizer_json::Tokenizer;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Fields of tokenizer_config.json that name one token, or several in a list or an object.
const NAMES: [&str; 4] = [
    "*_token",
    "additional_special_tokens",
    "extra_special_tokens",
    "model_specific_special_tokens",
];
/// The field of tokenizer_config.json with all added tokens by their ids.
const DECODER: &str = "added_tokens_decoder";
/// Ways in which an added token takes white space with it, or is found in whole words only.
const FLAGS: [&str; 3] = ["lstrip", "rstrip", "single_word"];

/// A token that a file names.
pub(crate) struct Named {
    file: PathBuf,
    /// Field or id that it has there.
    place: String,
    content: String,
    /// Its id, if the file has one.
    id: Option<u64>,
    /// The values of [`FLAGS`] that the file has.
    flags: [Option<bool>; 3],
}

/// The tokens that tokenizer_config.json (`config`), special_tokens_map.json and added_tokens.json in `body` name.
pub(crate) fn named(config: &Object, body: &Path) -> Result<Vec<Named>> {
    let mut all = Vec::new();
    for (field, value) in &config.fields {
        if NAMES.iter().any(|pattern| matches(pattern, field)) {
            collect(&config.file, field, value, &mut all);
        }
    }
    for (id, value) in config.get(DECODER).and_then(Value::as_object).into_iter().flatten() {
        if let Some(token) = token(&config.file, &format!("{DECODER}.{id}"), value, id.parse().ok()) {
            let flags = FLAGS.map(|flag| value[flag].as_bool());
            all.push(Named { flags, ..token });
        }
    }
    let map = Object::read_optional(&body.join("special_tokens_map.json"))?;
    for (field, value) in &map.fields {
        collect(&map.file, field, value, &mut all);
    }
    let added = Object::read_optional(&body.join("added_tokens.json"))?;
    for (content, id) in &added.fields {
        all.extend(token(
            &added.file,
            content,
            &Value::String(content.clone()),
            id.as_u64(),
        ));
    }
    Ok(all)
}

/// Adds the tokens in the value of a field: a token, a list of them, or an object with tokens by names.
fn collect(file: &Path, field: &str, value: &Value, all: &mut Vec<Named>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(file, field, value, all)),
        Value::Object(fields) if !fields.contains_key("content") => {
            fields.values().for_each(|value| collect(file, field, value, all));
        }
        _ => all.extend(token(file, field, value, None)),
    }
}

fn token(file: &Path, place: &str, value: &Value, id: Option<u64>) -> Option<Named> {
    let content = value.as_str().or_else(|| value["content"].as_str())?;
    (!content.is_empty()).then(|| Named {
        file: file.to_owned(),
        place: place.to_owned(),
        content: content.to_owned(),
        id,
        flags: [None; 3],
    })
}

/// Refuses a token that is none of the added tokens of tokenizer.json, or is another one there.
pub(crate) fn compare(named: &[Named], file: &Tokenizer) -> Result<()> {
    for token in named {
        let refuse = |found: String| {
            let reason = format!(
                ": {} names the special token {:?}, and tokenizer.json {found}. The published library finds this token in \
                 texts, and embergem reads tokenizer.json: load the tokenizer with transformers and save it again, so that \
                 both agree, or remove the name.",
                token.place, token.content
            );
            Err(unsupported(&token.file, reason))
        };
        let Some(added) = file.added_tokens.iter().find(|added| added.content == token.content) else {
            return refuse("does not have it among its added_tokens".into());
        };
        if let Some(id) = token.id.filter(|id| *id != added.id) {
            return refuse(format!("gives it the id {} and not {id}", added.id));
        }
        let there = [added.lstrip, added.rstrip, added.single_word];
        for ((flag, wanted), found) in FLAGS.iter().zip(token.flags).zip(there) {
            if wanted.is_some_and(|wanted| wanted != found) {
                return refuse(format!("has {flag} {found} for it"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_token_with_another_flag_than_in_tokenizer_json_is_refused() {
        let added = json!([{"id": 3, "content": "<s>", "lstrip": true}]);
        let file = Tokenizer {
            added_tokens: serde_json::from_value(added).unwrap(),
            ..Tokenizer::default()
        };
        let check = |token: Value| {
            let config = Object {
                file: "tokenizer_config.json".into(),
                fields: serde_json::from_value(json!({"added_tokens_decoder": {"3": token}})).unwrap(),
            };
            compare(&named(&config, Path::new("no-such-directory")).unwrap(), &file)
        };
        check(json!({"content": "<s>"})).unwrap();
        check(json!({"content": "<s>", "lstrip": true, "rstrip": false, "single_word": false})).unwrap();
        for (flag, value) in [("lstrip", false), ("rstrip", true), ("single_word", true)] {
            let error = check(json!({"content": "<s>", flag: value})).unwrap_err();
            assert!(
                error.to_string().contains(&format!("has {flag} {} for it", !value)),
                "{error}"
            );
        }
    }
}
