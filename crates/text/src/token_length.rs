//! The most characters that one token can cover, for tokenizers that have such a bound.
//!
//! With a bound of 31 a text of a million characters has at least 32,258 tokens, so it can be refused before it is
//! tokenized. The bound must hold for every text. A tokenizer with a part for which that is not proven has no bound:
//! WordPiece and Unigram encode a sequence of unknown characters as one token, and normalizers with Unicode forms or
//! regular expressions may remove characters.

use crate::bpe::BpeModel;
use serde_json::Value;
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper};

/// Returns the most characters of the input text that one token can cover; `None` if there is no known bound.
pub(crate) fn max_chars_per_token(
    bpe: &BpeModel,
    normalizer: Option<&NormalizerWrapper>,
    pre_tokenizer: Option<&PreTokenizerWrapper>,
    added: &[AddedToken],
) -> Option<usize> {
    // If every byte is a token, no character is unknown, so none is removed and none are fused.
    let all_bytes = bpe.settings.byte_fallback && bpe.has_all_bytes;
    let affixes = bpe.settings.continuing_subword_prefix.is_some() || bpe.settings.end_of_word_suffix.is_some();
    let strips = |token: &AddedToken| token.lstrip || token.rstrip || token.normalized;
    if !all_bytes
        || affixes
        || added.iter().any(strips)
        || !normalizer.is_none_or(|part| keeps_length(&serde_json::to_value(part).unwrap_or_default()))
        || !pre_tokenizer.is_none_or(only_splits)
    {
        return None;
    }
    let added = added.iter().map(|token| token.content.chars().count());
    added.chain([bpe.max_chars]).max()
}

/// Returns whether the normalizer never makes a text shorter.
fn keeps_length(part: &Value) -> bool {
    match part["type"].as_str() {
        Some("Replace") => match (part["pattern"]["String"].as_str(), part["content"].as_str()) {
            (Some(pattern), Some(content)) => content.chars().count() >= pattern.chars().count(),
            _ => false,
        },
        Some("Prepend") => true,
        Some("Sequence") => part["normalizers"]
            .as_array()
            .is_some_and(|parts| parts.iter().all(keeps_length)),
        _ => false,
    }
}

/// Returns whether the pre-tokenizer only splits the text and removes nothing.
fn only_splits(part: &PreTokenizerWrapper) -> bool {
    let part = serde_json::to_value(part).unwrap_or_default();
    part["type"] == "Split" && part["behavior"] != "Removed"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bound(changes: &[(&str, Value)]) -> Option<usize> {
        let mut vocabulary = json!({"a": 0, "aaaa": 1, "\u{2581}\u{2581}": 2});
        for byte in 0..=255 {
            vocabulary[format!("<0x{byte:02X}>")] = json!(byte + 3);
        }
        let mut parts = json!({
            "model": {"type": "BPE", "vocab": vocabulary, "merges": [], "byte_fallback": true, "fuse_unk": true},
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
            "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false},
            "added": [],
        });
        for (path, value) in changes {
            *parts.pointer_mut(path).unwrap() = value.clone();
        }
        let (model, _) = crate::bpe::read(&parts["model"].to_string()).unwrap();
        let normalizer = serde_json::from_value::<Option<_>>(parts["normalizer"].clone()).unwrap();
        let pre_tokenizer = serde_json::from_value::<Option<_>>(parts["pre_tokenizer"].clone()).unwrap();
        let added: Vec<AddedToken> = serde_json::from_value(parts["added"].clone()).unwrap();
        max_chars_per_token(&model, normalizer.as_ref(), pre_tokenizer.as_ref(), &added)
    }

    fn added(content: &str, lstrip: bool) -> Value {
        json!([{"content": content, "single_word": false, "lstrip": lstrip, "rstrip": false, "normalized": false, "special": true}])
    }

    #[test]
    fn the_longest_piece_or_added_token_is_the_bound() {
        assert_eq!(bound(&[]), Some(6));
        assert_eq!(
            bound(&[("/normalizer", Value::Null), ("/pre_tokenizer", Value::Null)]),
            Some(6)
        );
        assert_eq!(bound(&[("/added", added("<a longer one>", false))]), Some(14));
    }

    #[test]
    fn parts_that_could_shorten_a_text_leave_no_bound() {
        let split = |behavior: &str| json!({"type": "Split", "pattern": {"String": " "}, "behavior": behavior, "invert": false});
        for change in [
            ("/model/byte_fallback", json!(false)),
            ("/model/vocab", json!({"a": 0})),
            ("/normalizer", json!({"type": "NFKC"})),
            (
                "/normalizer",
                json!({"type": "Replace", "pattern": {"String": "  "}, "content": "\u{2581}"}),
            ),
            (
                "/normalizer",
                json!({"type": "Replace", "pattern": {"Regex": " +"}, "content": "\u{2581}"}),
            ),
            (
                "/normalizer",
                json!({"type": "Sequence", "normalizers": [{"type": "Lowercase"}]}),
            ),
            ("/pre_tokenizer", split("Removed")),
            ("/pre_tokenizer", json!({"type": "Whitespace"})),
            ("/added", added("<mask>", true)),
        ] {
            assert_eq!(bound(std::slice::from_ref(&change)), None, "{change:?}");
        }
    }
}
