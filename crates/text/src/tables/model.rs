//! Encodes words with the tables of a BPE model, token for token as the tokenizers library does.

use super::Tables;
use crate::bpe::Settings;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Marks the end of the list of symbols.
const NONE: u32 = u32::MAX;

/// A token, and where it is in the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WordToken {
    pub start: usize,
    pub end: usize,
    pub id: u32,
}

/// A BPE model without affixes and without dropout.
pub(crate) struct TableModel {
    pub settings: Settings,
    pub tables: Tables,
    /// Id of the token of each byte; `None` if one is missing.
    bytes: Vec<Option<u32>>,
    /// Id of the unknown token.
    unknown: Option<u32>,
}

/// A token of a word while it is merged. A symbol that was merged into the one before it has no length.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    before: u32,
    after: u32,
    len: u32,
}

/// A possible merge: rank and position of the left symbol, then the new id. The heap returns the lowest one first.
type Candidate = Reverse<(u32, u32, u32)>;

impl TableModel {
    /// `None` if the settings are others than the tables can apply.
    pub fn new(settings: Settings, tables: Tables) -> Option<Self> {
        if !settings.fits_tables() {
            return None;
        }
        let id = |token: &str| tables.vocabulary.get(token.as_bytes());
        Some(Self {
            bytes: (0..=255_u8).map(|byte| id(&format!("<0x{byte:02X}>"))).collect(),
            unknown: settings.unk_token.as_deref().and_then(id),
            settings,
            tables,
        })
    }

    /// Returns whether a character is a token.
    pub fn knows(&self, char: char) -> bool {
        let mut buffer = [0; 4];
        let token = char.encode_utf8(&mut buffer);
        self.tables.vocabulary.get(token.as_bytes()).is_some()
    }

    /// Returns the tokens of a word. `Err` is the reason why it has none.
    pub fn tokenize(&self, word: &str) -> Result<Vec<WordToken>, String> {
        if self.settings.ignore_merges
            && !word.is_empty()
            && let Some(id) = self.tables.vocabulary.get(word.as_bytes())
        {
            let end = word.len();
            return Ok(vec![WordToken { start: 0, end, id }]);
        }
        let mut symbols = self.symbols(word)?;
        self.merge(&mut symbols);
        let mut end = 0;
        let tokens = symbols.iter().filter(|symbol| symbol.len > 0).map(|symbol| {
            let start = end;
            end += symbol.len as usize;
            WordToken {
                start,
                end,
                id: symbol.id,
            }
        });
        Ok(tokens.collect())
    }

    /// Returns the tokens of the characters of a word. An unknown character becomes its bytes, or the unknown token, or
    /// nothing.
    fn symbols(&self, word: &str) -> Result<Vec<Symbol>, String> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(word.len());
        let mut add = |id: u32, len: u32| {
            let at = symbols.len() as u32;
            if let Some(last) = symbols.last_mut() {
                last.after = at;
            }
            symbols.push(Symbol {
                id,
                before: at.wrapping_sub(1),
                after: NONE,
                len,
            });
        };
        // The unknown token that is not added yet, as more characters may be fused into it. The library adds the bytes
        // of a character before it, and so does this function.
        let mut pending: Option<(u32, u32)> = None;
        let mut buffer = [0; 4];
        for char in word.chars() {
            let char = char.encode_utf8(&mut buffer).as_bytes();
            let len = char.len() as u32;
            if let Some(id) = self.tables.vocabulary.get(char) {
                if let Some((id, len)) = pending.take() {
                    add(id, len);
                }
                add(id, len);
                continue;
            }
            if self.settings.byte_fallback && char.iter().all(|byte| self.bytes[usize::from(*byte)].is_some()) {
                for id in char.iter().filter_map(|byte| self.bytes[usize::from(*byte)]) {
                    add(id, 1);
                }
                continue;
            }
            let Some(token) = &self.settings.unk_token else {
                continue;
            };
            pending = match pending {
                Some((id, before)) if self.settings.fuse_unk => Some((id, before + len)),
                before => {
                    if let Some((id, len)) = before {
                        add(id, len);
                    }
                    let id = self.unknown;
                    let id = id.ok_or_else(|| format!("Unk token `{token}` not found in the vocabulary"))?;
                    Some((id, len))
                }
            };
        }
        if let Some((id, len)) = pending {
            add(id, len);
        }
        Ok(symbols)
    }

    /// Applies the merge of the lowest rank, of these the leftmost, until there is none.
    fn merge(&self, symbols: &mut [Symbol]) {
        let merges = &self.tables.merges;
        let pairs = (0..).zip(symbols.windows(2));
        let found = pairs.filter_map(|(at, pair)| {
            let (rank, new) = merges.get(pair[0].id, pair[1].id)?;
            Some(Reverse((rank, at, new)))
        });
        let mut queue: BinaryHeap<Candidate> = found.collect::<Vec<_>>().into();
        while let Some(Reverse((_, at, new))) = queue.pop() {
            let left = symbols[at as usize];
            if left.len == 0 || left.after == NONE {
                continue;
            }
            let right = symbols[left.after as usize];
            // Another merge may have changed one of the two.
            if merges.get(left.id, right.id).is_none_or(|(_, id)| id != new) {
                continue;
            }
            symbols[left.after as usize].len = 0;
            symbols[at as usize] = Symbol {
                id: new,
                before: left.before,
                after: right.after,
                len: left.len + right.len,
            };
            if right.after != NONE {
                symbols[right.after as usize].before = at;
                if let Some((rank, id)) = merges.get(new, symbols[right.after as usize].id) {
                    queue.push(Reverse((rank, at, id)));
                }
            }
            if left.before != NONE
                && let Some((rank, id)) = merges.get(symbols[left.before as usize].id, new)
            {
                queue.push(Reverse((rank, left.before, id)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpe;
    use serde_json::{Value, json};
    use tokenizers::Model;

    /// Returns numbers below `end`, always the same ones for a seed.
    fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
        let mut state = seed;
        move |end| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % end
        }
    }

    /// A model with random merges, some of them twice, and some tokens with the id of another one.
    fn random_model(seed: u64, settings: &Value) -> Value {
        let mut number = numbers(seed);
        let mut tokens: Vec<String> = ["??", "a", "b", "é", "中", "<0xC3>"].map(str::to_owned).into();
        if settings["byte_fallback"] == true {
            tokens.extend((0..=255_u8).map(|byte| format!("<0x{byte:02X}>")));
        }
        let mut merges = Vec::new();
        while merges.len() < 80 {
            let pair = [0, 1].map(|_| tokens[1 + number(tokens.len() - 1)].clone());
            let merged = pair.concat();
            if merged.len() > 30 {
                continue;
            }
            if !tokens.contains(&merged) {
                tokens.push(merged);
            }
            merges.push(pair);
        }
        let ids = tokens.iter().map(|_| number(tokens.len()));
        let distinct: Vec<usize> = (0..tokens.len()).collect();
        let ids: Vec<usize> = if seed.is_multiple_of(2) {
            distinct
        } else {
            ids.collect()
        };
        let vocabulary: serde_json::Map<_, _> = tokens.iter().cloned().zip(ids.iter().map(|id| json!(id))).collect();
        let mut model = json!({"type": "BPE", "vocab": vocabulary, "merges": merges});
        for (name, value) in settings.as_object().unwrap() {
            model[name] = value.clone();
        }
        model
    }

    #[test]
    fn words_have_the_tokens_of_the_library() {
        for settings in [
            json!({}),
            json!({"unk_token": "??"}),
            json!({"unk_token": "??", "fuse_unk": true}),
            json!({"unk_token": "??", "byte_fallback": true}),
            json!({"byte_fallback": true, "ignore_merges": true, "dropout": 0.0}),
            json!({"unk_token": "??", "fuse_unk": true, "byte_fallback": true, "ignore_merges": true}),
        ] {
            for seed in 0..12 {
                let json = random_model(seed, &settings).to_string();
                let (_, library) = bpe::read(&json).unwrap();
                let parts = bpe::read_tables(&json).unwrap().unwrap();
                let ours = TableModel::new(parts.settings, parts.tables).unwrap();
                let mut number = numbers(seed + 100);
                for length in 0..300 {
                    let chars = (0..length).map(|_| ["a", "b", "é", "中", "z", "ü", "<0xC3>"][number(7)]);
                    let word: String = chars.collect();
                    let expected = library.tokenize(&word).unwrap();
                    let expected: Vec<_> = expected.iter().map(|token| (token.offsets, token.id)).collect();
                    let found = ours.tokenize(&word).unwrap();
                    let found: Vec<_> = found.iter().map(|token| ((token.start, token.end), token.id)).collect();
                    assert_eq!(found, expected, "{settings} {seed} {word}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_token_that_does_not_exist_is_an_error_as_in_the_library() {
        let json = json!({"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "<unk>"}).to_string();
        let (_, library) = bpe::read(&json).unwrap();
        let parts = bpe::read_tables(&json).unwrap().unwrap();
        let ours = TableModel::new(parts.settings, parts.tables).unwrap();
        assert_eq!(
            ours.tokenize("b").unwrap_err(),
            library.tokenize("b").unwrap_err().to_string()
        );
        assert!(ours.knows('a') && !ours.knows('b'));
    }

    #[test]
    fn tables_are_not_made_for_affixes_and_dropout() {
        for settings in [
            json!({"dropout": 0.1}),
            json!({"continuing_subword_prefix": "##"}),
            json!({"end_of_word_suffix": ""}),
        ] {
            let json = random_model(0, &settings).to_string();
            assert!(bpe::read_tables(&json).unwrap().is_none(), "{settings}");
        }
    }
}
