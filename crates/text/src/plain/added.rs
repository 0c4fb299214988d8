//! Added tokens in a text, found as by the tokenizers library: the leftmost first, of these the longest.

use super::split::is_word;
use crate::tables::Vocabulary;
use crate::trie::Trie;
use std::collections::HashSet;
use tokenizers::{AddedToken, NormalizedString, Normalizer, NormalizerWrapper, Tokenizer as Library};

/// A part of a text.
pub(crate) enum Part<'a> {
    Text(&'a str),
    /// The id of an added token, and where the part ends.
    Token(u32, usize),
}

/// The added tokens of a tokenizer.
pub(crate) struct AddedTokens {
    /// Tokens with their index, to be found in a text before it is normalized.
    raw: Trie,
    /// Normalized tokens with their index, to be found in normalized text.
    normalized: Trie,
    tokens: Vec<(u32, AddedToken)>,
}

impl AddedTokens {
    /// Takes the tokens of the library.
    pub fn of(library: &Library) -> Self {
        let vocabulary = library.get_added_vocabulary();
        let tokens = vocabulary.get_added_tokens_decoder().iter().map(|(id, token)| {
            // The normalized form of a token that is matched in normalized text.
            let pattern = vocabulary.simple_id_to_token(*id);
            (*id, token.clone(), pattern.unwrap_or_else(|| token.content.clone()))
        });
        Self::new(tokens.collect())
    }

    /// Gives the tokens the ids that the library gives them beside `vocabulary`. Returns `None` if two tokens are found
    /// by the same text or have the same id, or if one is found by none: the library refuses some of these.
    pub fn beside(
        vocabulary: &Vocabulary,
        added: Vec<AddedToken>,
        normalizer: Option<&NormalizerWrapper>,
    ) -> Option<Self> {
        let mut next = u32::try_from(vocabulary.len()).ok()?;
        let (mut ids, mut patterns) = (HashSet::new(), HashSet::new());
        let mut tokens = Vec::with_capacity(added.len());
        for token in added {
            let id = vocabulary.get(token.content.as_bytes()).unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            let mut pattern = token.content.clone();
            if token.normalized
                && let Some(normalizer) = normalizer
            {
                let mut normalized = NormalizedString::from(token.content.as_str());
                normalizer.normalize(&mut normalized).ok()?;
                normalized.get().clone_into(&mut pattern);
            }
            let is_new = ids.insert(id) && patterns.insert(pattern.clone());
            if pattern.is_empty() || token.content.is_empty() || !is_new {
                return None;
            }
            tokens.push((id, token, pattern));
        }
        Some(Self::new(tokens))
    }

    /// `tokens` have their ids, and the text by which they are found.
    fn new(tokens: Vec<(u32, AddedToken, String)>) -> Self {
        let trie = |normalized: bool| {
            let chosen = (0..).zip(&tokens);
            Trie::new(
                chosen
                    .filter(|(_, (_, token, _))| token.normalized == normalized)
                    .map(|(index, (_, _, pattern))| (pattern.as_str(), index)),
            )
        };
        Self {
            raw: trie(false),
            normalized: trie(true),
            tokens: tokens.into_iter().map(|(id, token, _)| (id, token)).collect(),
        }
    }

    /// Returns the added token with this content.
    pub fn get(&self, content: &str) -> Option<u32> {
        let mut tokens = self.tokens.iter();
        tokens.find(|(_, token)| token.content == content).map(|(id, _)| *id)
    }

    /// Returns the content of an added token.
    pub fn content(&self, id: u32) -> Option<&str> {
        let mut tokens = self.tokens.iter();
        tokens
            .find(|(own, _)| *own == id)
            .map(|(_, token)| token.content.as_str())
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
