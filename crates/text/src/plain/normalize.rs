//! The normalizers of the tokenizers library on plain strings.
//!
//! The library keeps the alignment of every byte with the original text: 16 bytes for each, several times over. Nobody
//! reads it here.

use serde_json::Value;
use tokenizers::NormalizerWrapper;
use tokenizers::normalizers::{BertNormalizer, Precompiled};
use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;
use unicode_normalization_alignments::char::is_combining_mark;
use unicode_segmentation::UnicodeSegmentation;

/// Longest grapheme in bytes that [`Precompiled`] looks up whole.
const MAX_GRAPHEME: usize = 5;

/// One step of a normalizer.
enum Step {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Lowercase,
    StripAccents,
    Nmt,
    Bert(BertNormalizer),
    Precompiled(Box<Precompiled>),
    Replace {
        pattern: String,
        content: String,
    },
    /// Replaces two or more spaces.
    ReplaceSpaces {
        content: String,
    },
    Prepend(String),
    Strip {
        left: bool,
        right: bool,
    },
}

/// A normalizer as a sequence of steps.
pub(super) struct Normalizer {
    steps: Vec<Step>,
}

impl Normalizer {
    /// Returns `None` for a normalizer that is not known.
    pub fn new(part: Option<&NormalizerWrapper>) -> Option<Self> {
        let mut steps = Vec::new();
        if let Some(part) = part {
            add_steps(part, &mut steps)?;
        }
        Some(Self { steps })
    }

    /// Returns whether the first characters of a text may be removed.
    pub fn may_remove(&self) -> bool {
        let keeps = |step: &Step| {
            matches!(
                step,
                Step::Nfc | Step::Nfd | Step::Nfkc | Step::Nfkd | Step::Lowercase | Step::Prepend(_)
            ) || matches!(step, Step::Replace { content, .. } | Step::ReplaceSpaces { content } if !content.is_empty())
        };
        !self.steps.iter().all(keeps)
    }

    /// Returns whether the result has no spaces.
    pub fn removes_spaces(&self) -> bool {
        self.steps.iter().fold(false, |removed, step| match step {
            Step::Replace { pattern, content } if pattern == " " => !content.contains(' '),
            Step::Prepend(prefix) => removed && !prefix.contains(' '),
            _ => false,
        })
    }

    /// Returns the normalized text. `continues` says that the text is the continuation of another one, whose last
    /// character is no white space.
    pub fn normalize(&self, text: &str, continues: bool) -> String {
        let mut text = text.to_owned();
        for step in &self.steps {
            text = step.apply(text, continues);
        }
        text
    }
}

fn add_steps(part: &NormalizerWrapper, steps: &mut Vec<Step>) -> Option<()> {
    steps.push(match part {
        NormalizerWrapper::Sequence(sequence) => {
            return sequence.as_ref().iter().try_for_each(|part| add_steps(part, steps));
        }
        NormalizerWrapper::NFC(_) => Step::Nfc,
        NormalizerWrapper::NFD(_) => Step::Nfd,
        NormalizerWrapper::NFKC(_) => Step::Nfkc,
        NormalizerWrapper::NFKD(_) => Step::Nfkd,
        NormalizerWrapper::Lowercase(_) => Step::Lowercase,
        NormalizerWrapper::StripAccents(_) => Step::StripAccents,
        NormalizerWrapper::Nmt(_) => Step::Nmt,
        NormalizerWrapper::BertNormalizer(bert) => Step::Bert(*bert),
        NormalizerWrapper::Precompiled(precompiled) => Step::Precompiled(Box::new(precompiled.clone())),
        NormalizerWrapper::Prepend(prepend) => Step::Prepend(prepend.prepend.clone()),
        NormalizerWrapper::StripNormalizer(strip) => Step::Strip {
            left: strip.strip_left,
            right: strip.strip_right,
        },
        NormalizerWrapper::Replace(replace) => {
            let content = replace.content.clone();
            let json: Value = serde_json::to_value(replace).ok()?;
            match (json["pattern"]["String"].as_str(), json["pattern"]["Regex"].as_str()) {
                (Some(pattern), _) if !pattern.is_empty() => Step::Replace {
                    pattern: pattern.to_owned(),
                    content,
                },
                (_, Some(" {2,}")) => Step::ReplaceSpaces { content },
                _ => return None,
            }
        }
        NormalizerWrapper::ByteLevel(_) => return None,
    });
    Some(())
}

impl Step {
    fn apply(&self, text: String, continues: bool) -> String {
        match self {
            Self::Nfc => text.nfc().map(|(char, _)| char).collect(),
            Self::Nfd => text.nfd().map(|(char, _)| char).collect(),
            Self::Nfkc => text.nfkc().map(|(char, _)| char).collect(),
            Self::Nfkd => text.nfkd().map(|(char, _)| char).collect(),
            Self::Lowercase => lowercase(&text),
            Self::StripAccents => text.chars().filter(|char| !is_combining_mark(*char)).collect(),
            Self::Nmt => text.chars().filter_map(nmt).collect(),
            Self::Bert(bert) => apply_bert(bert, text),
            Self::Precompiled(precompiled) => apply_precompiled(precompiled, &text),
            Self::Replace { pattern, content } => text.replace(pattern, content),
            Self::ReplaceSpaces { content } => replace_spaces(&text, content),
            Self::Prepend(prefix) if !text.is_empty() && !continues => [prefix, text.as_str()].concat(),
            Self::Prepend(_) => text,
            Self::Strip { left, right } => {
                let mut kept = text.as_str();
                if *left && !continues {
                    kept = kept.trim_start();
                }
                if *right {
                    kept = kept.trim_end();
                }
                kept.to_owned()
            }
        }
    }
}

/// Returns the lower case of each character alone. That of a string also looks at the neighbours of a capital sigma.
fn lowercase(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

fn replace_spaces(text: &str, content: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("  ") {
        result.push_str(&rest[..at]);
        result.push_str(content);
        rest = rest[at..].trim_start_matches(' ');
    }
    result.push_str(rest);
    result
}

fn apply_bert(bert: &BertNormalizer, mut text: String) -> String {
    if bert.clean_text {
        text = text.chars().filter_map(clean).collect();
    }
    if bert.handle_chinese_chars && text.chars().any(is_chinese) {
        let mut spaced = String::with_capacity(text.len());
        for char in text.chars() {
            if is_chinese(char) {
                spaced.extend([' ', char, ' ']);
            } else {
                spaced.push(char);
            }
        }
        text = spaced;
    }
    if bert.strip_accents.unwrap_or(bert.lowercase) {
        text = text
            .nfd()
            .map(|(char, _)| char)
            .filter(|char| !char.is_mark_nonspacing())
            .collect();
    }
    if bert.lowercase { lowercase(&text) } else { text }
}

/// `None` removes the character.
fn clean(char: char) -> Option<char> {
    match char {
        '\t' | '\n' | '\r' => Some(' '),
        '\0' | '\u{fffd}' => None,
        _ if char.is_other() => None,
        _ if char.is_whitespace() => Some(' '),
        _ => Some(char),
    }
}

fn is_chinese(char: char) -> bool {
    matches!(char, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{2a6df}')
        || matches!(char, '\u{2a700}'..='\u{2b73f}' | '\u{2b740}'..='\u{2b81f}' | '\u{2b920}'..='\u{2ceaf}')
        || matches!(char, '\u{f900}'..='\u{faff}' | '\u{2f800}'..='\u{2fa1f}')
}

/// `None` removes the character.
fn nmt(char: char) -> Option<char> {
    match char {
        '\u{1}'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{8f}' | '\u{9f}' => None,
        '\t' | '\n' | '\u{c}' | '\r' | '\u{1680}' | '\u{200b}'..='\u{200f}' | '\u{2028}' | '\u{2029}' => Some(' '),
        '\u{2581}' | '\u{feff}' | '\u{fffd}' => Some(' '),
        _ => Some(char),
    }
}

fn apply_precompiled(precompiled: &Precompiled, text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut buffer = [0; 4];
    for grapheme in text.graphemes(true) {
        if grapheme.len() <= MAX_GRAPHEME
            && let Some(found) = precompiled.transform(grapheme)
        {
            result.push_str(found);
            continue;
        }
        for char in grapheme.chars() {
            match precompiled.transform(char.encode_utf8(&mut buffer)) {
                Some(found) => result.push_str(found),
                None => result.push(char),
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain::testing::{all_characters, texts};
    use serde_json::json;
    use tokenizers::{NormalizedString, Normalizer as _};

    #[test]
    fn texts_are_normalized_as_by_the_library() {
        let bert = |clean, chinese, accents: Option<bool>, lower| json!({"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": chinese, "strip_accents": accents, "lowercase": lower});
        let replace = |pattern, content| json!({"type": "Replace", "pattern": pattern, "content": content});
        let strip = |left, right| json!({"type": "Strip", "strip_left": left, "strip_right": right});
        let sequence = |parts: &[Value]| json!({"type": "Sequence", "normalizers": parts});
        let plain = |name: &str| json!({"type": name});
        for part in [
            plain("NFC"),
            plain("NFD"),
            plain("NFKC"),
            plain("NFKD"),
            plain("Lowercase"),
            plain("StripAccents"),
            plain("Nmt"),
            bert(true, true, None, true),
            bert(true, true, None, false),
            bert(false, false, Some(true), false),
            bert(true, false, Some(false), true),
            replace(json!({"String": " "}), "\u{2581}"),
            replace(json!({"String": "``"}), "\""),
            replace(json!({"Regex": " {2,}"}), " "),
            replace(json!({"Regex": " {2,}"}), "\u{2581}"),
            json!({"type": "Prepend", "prepend": "\u{2581}"}),
            strip(true, true),
            strip(false, true),
            strip(true, false),
            sequence(&[
                json!({"type": "Prepend", "prepend": "\u{2581}"}),
                replace(json!({"String": " "}), "\u{2581}"),
            ]),
            sequence(&[
                plain("NFKC"),
                strip(false, true),
                replace(json!({"Regex": " {2,}"}), "\u{2581}"),
            ]),
            sequence(&[
                plain("NFKD"),
                plain("StripAccents"),
                plain("Lowercase"),
                strip(true, true),
            ]),
        ] {
            let library: NormalizerWrapper = serde_json::from_value(part.clone()).unwrap();
            let ours = Normalizer::new(Some(&library)).unwrap();
            for text in texts().chain(all_characters()) {
                let mut expected = NormalizedString::from(text.as_str());
                library.normalize(&mut expected).unwrap();
                assert_eq!(ours.normalize(&text, false), expected.get(), "{part} {text:?}");
            }
        }
    }

    /// Makes the table of a SentencePiece normalizer: a double array in which node `n` has the places from `256 * n` on.
    fn charsmap(rules: &[(&str, &str)]) -> Precompiled {
        let mut nodes = vec![Vec::<(u8, usize)>::new(); 2];
        let (mut texts, mut values) = (Vec::new(), vec![None; 2]);
        for (pattern, content) in rules {
            let mut node = 1;
            for byte in pattern.bytes() {
                let known = nodes[node]
                    .iter()
                    .find(|(label, _)| *label == byte)
                    .map(|(_, child)| *child);
                node = known.unwrap_or_else(|| {
                    nodes.push(Vec::new());
                    values.push(None);
                    let child = nodes.len() - 1;
                    nodes[node].push((byte, child));
                    child
                });
            }
            values[node] = Some(texts.len());
            texts.extend([content.as_bytes(), &[0]].concat());
        }
        let mut units = vec![0_usize; 256 * nodes.len()];
        units[0] = 256 << 10;
        for (node, children) in nodes.iter().enumerate() {
            for (label, child) in children {
                let place = (256 * node) ^ usize::from(*label);
                let leaf = usize::from(values[*child].is_some());
                units[place] = usize::from(*label) | (leaf << 8) | ((place ^ (256 * child)) << 10);
            }
            if let Some(value) = values[node] {
                units[256 * node] = value;
            }
        }
        let size = u32::try_from(4 * units.len()).unwrap();
        let units = units
            .into_iter()
            .flat_map(|unit| u32::try_from(unit).unwrap().to_le_bytes());
        Precompiled::from(
            &size
                .to_le_bytes()
                .into_iter()
                .chain(units)
                .chain(texts)
                .collect::<Vec<u8>>(),
        )
        .unwrap()
    }

    #[test]
    fn tables_of_sentencepiece_are_applied_as_by_the_library() {
        let rules = [
            ("ﬁ", "fi"),
            ("\0", ""),
            ("\u{7f}", ""),
            ("\u{3000}", " "),
            ("\u{301}", ""),
            ("e\u{301}", "é"),
            ("½", "1⁄2"),
        ];
        let library = NormalizerWrapper::Precompiled(charsmap(&rules));
        let ours = Normalizer::new(Some(&library)).unwrap();
        assert_eq!(ours.normalize("ﬁ e\u{301}\u{3000}½\u{7f}", false), "fi é 1⁄2");
        for text in texts().chain(["e\u{301}".repeat(9), "\u{301}".repeat(9)]) {
            let mut expected = NormalizedString::from(text.as_str());
            library.normalize(&mut expected).unwrap();
            assert_eq!(ours.normalize(&text, false), expected.get(), "{text:?}");
        }
    }

    #[test]
    fn a_continuation_keeps_its_beginning() {
        let library: NormalizerWrapper = serde_json::from_value(json!({"type": "Sequence", "normalizers": [
            {"type": "Strip", "strip_left": true, "strip_right": true}, {"type": "Prepend", "prepend": "x"}
        ]}))
        .unwrap();
        let ours = Normalizer::new(Some(&library)).unwrap();
        assert_eq!(ours.normalize(" a ", false), "xa");
        assert_eq!(ours.normalize(" a ", true), " a");
    }
}
