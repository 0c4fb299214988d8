//! Added tokens in a text, found as by the tokenizers library: the leftmost first, of these the longest.

use super::split::is_word;
use crate::trie::Trie;
use tokenizers::{AddedToken, Tokenizer as Library};

/// A part of a text.
pub(super) enum Part<'a> {
    Text(&'a str),
    /// The id of an added token, and where the part ends.
    Token(u32, usize),
}

/// The added tokens of a tokenizer.
pub(super) struct AddedTokens {
    /// Tokens with their index, to be found in a text before it is normalized.
    raw: Trie,
    /// Normalized tokens with their index, to be found in normalized text.
    normalized: Trie,
    tokens: Vec<(u32, AddedToken)>,
}

impl AddedTokens {
    pub fn new(library: &Library) -> Self {
        let vocabulary = library.get_added_vocabulary();
        let tokens: Vec<(u32, AddedToken)> = vocabulary
            .get_added_tokens_decoder()
            .iter()
            .map(|(id, token)| (*id, token.clone()))
            .collect();
        // The normalized form of a token that is matched in normalized text.
        let contents: Vec<String> = tokens
            .iter()
            .map(|(id, token)| {
                vocabulary
                    .simple_id_to_token(*id)
                    .unwrap_or_else(|| token.content.clone())
            })
            .collect();
        let trie = |normalized: bool| {
            let chosen = (0..).zip(tokens.iter().zip(&contents));
            Trie::new(
                chosen
                    .filter(|(_, ((_, token), _))| token.normalized == normalized)
                    .map(|(index, (_, content))| (content.as_str(), index)),
            )
        };
        Self {
            raw: trie(false),
            normalized: trie(true),
            tokens,
        }
    }

    /// Calls `next` with the parts of a text that is not normalized yet; none of them is empty.
    pub fn split<E>(&self, text: &str, next: impl FnMut(Part<'_>) -> Result<(), E>) -> Result<(), E> {
        self.split_by(&self.raw, text, next)
    }

    /// Calls `next` with the parts of a normalized text; none of them is empty.
    pub fn split_normalized<E>(&self, text: &str, next: impl FnMut(Part<'_>) -> Result<(), E>) -> Result<(), E> {
        self.split_by(&self.normalized, text, next)
    }

    fn split_by<E>(&self, trie: &Trie, text: &str, mut next: impl FnMut(Part<'_>) -> Result<(), E>) -> Result<(), E> {
        let bytes = text.as_bytes();
        // End of the last part, and the position from which the next token is looked for.
        let (mut done, mut at) = (0, 0);
        while at < bytes.len() && trie.longest > 0 {
            let Some((length, index)) = trie.prefixes(&bytes[at..]).last() else {
                at += 1;
                continue;
            };
            let (mut start, mut end) = (at, at + length);
            at = end;
            let (id, token) = &self.tokens[index as usize];
            let joined = text[..start].chars().next_back().is_some_and(is_word)
                || text[end..].chars().next().is_some_and(is_word);
            if token.single_word && joined {
                continue;
            }
            if token.lstrip {
                // The token before may have taken the white space, and even more.
                start = start.min(done.max(text[..start].trim_end().len()));
                start = start.max(done);
            }
            if token.rstrip {
                end = text.len() - text[end..].trim_start().len();
            }
            if done < start {
                next(Part::Text(&text[done..start]))?;
            }
            next(Part::Token(*id, end))?;
            done = end;
        }
        if done < text.len() {
            next(Part::Text(&text[done..]))?;
        }
        Ok(())
    }
}
