//! tokenizer_config.json: the settings in which it could disagree with tokenizer.json.
//!
//! embergem reads texts with tokenizer.json alone. The published library builds some tokenizers anew, from settings in
//! tokenizer_config.json and from the defaults of the class that it names. Where that gives another tokenizer than
//! tokenizer.json, the checkpoint is refused. tests/data/reference_cases.json has what the library does with each setting.

use crate::error::{Result, unsupported};
use crate::json::Object;
use crate::settings::{Setting, any, check as check_settings, only};
use crate::special_tokens;
use crate::tokenizer_json::Tokenizer;
use serde_json::Value;
use std::path::Path;

/// The setting that names code in the repository of the model.
const REMOTE_CODE: &str = "auto_map";
/// Classes that the published library builds anew, by the kind of the model in tokenizer.json.
const CLASSES: [(&str, &[&str]); 3] = [
    (
        "WordPiece",
        &[
            "Bert",
            "DistilBert",
            "MPNet",
            "Electra",
            "MobileBert",
            "ConvBert",
            "LayoutLM",
        ],
    ),
    ("Unigram", &["XLMRoberta", "T5", "Albert", "Camembert"]),
    ("BPE", &["Roberta", "GPT2", "Qwen2", "Gemma"]),
];

const NAMES: &[Setting] = &[
    any(
        &[
            "do_lower_case",
            "strip_accents",
            "tokenize_chinese_chars",
            "keep_accents",
            "add_prefix_space",
            "truncation_side",
        ],
        "is compared with tokenizer.json",
    ),
    any(&["model_max_length"], "is read as the limit"),
    only(
        &["add_special_tokens"],
        &["null"],
        "is not a setting of any tokenizer, and the published library fails",
    ),
    any(&["auto_map*"], "names code that comes with the model"),
    only(
        &["split_special_tokens"],
        &["false", "null"],
        "reads the names of special tokens in a text as plain text",
    ),
    only(
        &["fix_mistral_regex"],
        &["false", "null"],
        "splits texts in another way",
    ),
    any(
        &[
            "*_token",
            "*_token.__type",
            "*_token.content",
            "*_token.lstrip",
            "*_token.normalized",
            "*_token.rstrip",
            "*_token.single_word",
            "*_token.special",
            "*_tokens",
            "additional_special_tokens*",
            "extra_special_tokens*",
            "added_tokens_decoder*",
            "model_specific_special_tokens*",
            "special_tokens_map*",
            "*_token_type_id",
        ],
        "names tokens, and is compared with tokenizer.json",
    ),
    any(
        &[
            "tokenizer_class",
            "processor_class",
            "backend",
            "is_local",
            "local_files_only",
            "name_or_path",
            "*_file",
        ],
        "says which class and files made the tokenizer",
    ),
    any(
        &["chat_template*", "response_schema*", "use_default_system_prompt"],
        "belongs to conversations",
    ),
    any(&["model_input_names"], "names inputs that are made in any case"),
    any(
        &[
            "padding",
            "padding_side",
            "pad_to_multiple_of",
            "pad_token_id",
            "return_token_type_ids",
        ],
        "says how rows are padded, and embergem pads none",
    ),
    any(
        &["max_length", "stride", "truncation", "truncation_strategy", "max_len"],
        "is a default that sentence-transformers replaces",
    ),
    any(
        &[
            "clean_up_tokenization_spaces",
            "spaces_between_special_tokens",
            "errors",
        ],
        "is used to decode",
    ),
    any(
        &[
            "use_fast",
            "from_slow",
            "legacy",
            "legacy_behaviour",
            "do_basic_tokenize",
            "never_split",
            "wordpieces_prefix",
            "sp_model_kwargs*",
            "trim_offsets",
            "remove_space",
            "extra_ids",
            "do_word_tokenize",
            "subword_tokenizer_type",
            "word_tokenizer_type",
            "vocab_size",
            "init_kwargs",
        ],
        "belongs to tokenizers that are not read from tokenizer.json",
    ),
];

/// Refuses settings that contradict the tokenizer.json in the directory `body`: those of `config`, which is
/// tokenizer_config.json, and of the files of special tokens. `lower_case` is sentence_bert_config.json.
/// Returns where the settings name code that comes with the model.
pub(crate) fn check(config: &Object, body: &Path, lower_case: &Object) -> Result<Vec<String>> {
    check_settings(config, NAMES)?;
    let named = special_tokens::named(config, body)?;
    let class = config
        .get("tokenizer_class")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let class = class.trim_end_matches("Fast").trim_end_matches("Tokenizer");
    let kind = CLASSES
        .iter()
        .find(|(_, classes)| classes.contains(&class))
        .map(|(kind, _)| *kind);
    let lower_text = lower_case.get("do_lower_case") == Some(&Value::Bool(true));
    let stated = ["truncation_side", "add_prefix_space"]
        .iter()
        .any(|name| config.get(name).is_some_and(|v| !v.is_null()));
    // A large tokenizer.json takes some time to read, so it is read only for settings that need it.
    if kind.is_some() || lower_text || stated || !named.is_empty() {
        let file = Tokenizer::read(&body.join("tokenizer.json"))?;
        special_tokens::compare(&named, &file)?;
        if lower_text && !file.has(&file.normalizer, lowers_case) {
            let reason = " sets do_lower_case, but the normalizer in tokenizer.json keeps capitals. Save the tokenizer with \
                          a Lowercase normalizer.";
            return Err(unsupported(&lower_case.file, reason));
        }
        compare(config, &file, class, kind)?;
    }
    let names_code = config.get(REMOTE_CODE).is_some_and(|code| !code.is_null());
    Ok(Vec::from_iter(
        names_code.then(|| "tokenizer_config.json: auto_map".to_owned()),
    ))
}

fn compare(config: &Object, file: &Tokenizer, class: &str, kind: Option<&str>) -> Result<()> {
    let refuse = |setting: &str, found: &str| {
        let reason = format!(
            ": {setting}, but tokenizer.json {found}. The published library follows {name}, and embergem reads \
             tokenizer.json: load the tokenizer with transformers and save it again, so that both agree.",
            name = "tokenizer_config.json"
        );
        Err(unsupported(&config.file, reason))
    };
    if let (Some(kind), Some(found)) = (kind, file.kind.as_deref())
        && kind != found
    {
        return refuse(
            &format!("tokenizer_class is {class}Tokenizer, which is of the kind {kind}"),
            &format!("is a {found}"),
        );
    }
    if kind == Some("Unigram") && !file.joins_spaces() {
        return refuse(
            &format!("a {class}Tokenizer splits at white space"),
            "keeps several spaces apart",
        );
    }
    let left = file
        .truncation
        .as_ref()
        .is_some_and(|truncation| truncation["direction"] == "Left");
    if let Some(side) = config.get("truncation_side").and_then(Value::as_str)
        && (side == "left") != left
    {
        let found = if left {
            "truncates on the left"
        } else {
            "truncates on the right"
        };
        return refuse(&format!("truncation_side is {side:?}"), found);
    }
    if let (Some(wanted), Some(found)) = (
        config.get("add_prefix_space").and_then(Value::as_bool),
        file.prefix_space(),
    ) && wanted != found
    {
        let found = if found { "adds a space" } else { "adds no space" };
        return refuse(&format!("add_prefix_space is {wanted}"), found);
    }
    let flag = |name: &str| config.get(name).and_then(Value::as_bool);
    if kind == Some("WordPiece") || class == "Albert" {
        let lowers = file.has(&file.normalizer, lowers_case);
        let wanted = flag("do_lower_case").unwrap_or(true); // the default of these classes
        if wanted != lowers {
            let found = if lowers { "lowers case" } else { "keeps capitals" };
            return refuse(&format!("do_lower_case of a {class}Tokenizer is {wanted}"), found);
        }
        let strips = file.has(&file.normalizer, strips_accents);
        let (name, wanted) = match class {
            "Albert" => ("keep_accents", !flag("keep_accents").unwrap_or(false)),
            _ => ("strip_accents", flag("strip_accents").unwrap_or(wanted)),
        };
        if wanted != strips {
            let found = if strips { "removes accents" } else { "keeps accents" };
            let value = if class == "Albert" { !wanted } else { wanted };
            return refuse(&format!("{name} of a {class}Tokenizer is {value}"), found);
        }
    }
    if kind == Some("WordPiece") {
        let wanted = flag("tokenize_chinese_chars").unwrap_or(true);
        let splits = file.has(&file.normalizer, |one| one["handle_chinese_chars"] == true);
        if wanted != splits {
            let found = if splits {
                "splits Chinese characters"
            } else {
                "joins Chinese characters"
            };
            return refuse(
                &format!("tokenize_chinese_chars of a {class}Tokenizer is {wanted}"),
                found,
            );
        }
    }
    Ok(())
}

fn lowers_case(normalizer: &Value) -> bool {
    normalizer["type"] == "Lowercase" || normalizer["lowercase"] == true
}

fn strips_accents(normalizer: &Value) -> bool {
    match normalizer["strip_accents"].as_bool() {
        Some(strips) => strips,
        None => {
            normalizer["type"] == "StripAccents" || normalizer["type"] == "BertNormalizer" && lowers_case(normalizer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_class_that_splits_at_white_space_needs_a_file_that_joins_spaces() {
        let config = Object {
            file: "tokenizer_config.json".into(),
            fields: serde_json::from_value(json!({"tokenizer_class": "XLMRobertaTokenizer"})).unwrap(),
        };
        let metaspace = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always"});
        let split = json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]});
        for (part, accepted) in [(split, true), (metaspace, false)] {
            let file = Tokenizer {
                kind: Some("Unigram".into()),
                pre_tokenizer: Some(part),
                ..Tokenizer::default()
            };
            let found = compare(&config, &file, "XLMRoberta", Some("Unigram"));
            match found {
                Ok(()) => assert!(accepted),
                Err(error) => assert!(
                    !accepted && error.to_string().contains("keeps several spaces apart"),
                    "{error}"
                ),
            }
        }
    }
}
