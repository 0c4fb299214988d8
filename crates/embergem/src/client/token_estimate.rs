//! Splits a request into parts by tokens. A client has no tokenizer, so it estimates the tokens of texts.
//!
//! The estimate is that of the Python client (`src/embergem/client/token_estimate.py`): it begins high and then follows
//! the token counts in the server's answers.

use crate::request::EmbeddingRequestInput;

/// Tokens of one part. Sending a part again costs little, and no part reaches the timeout.
pub(super) const PART_TOKENS: usize = 16_384;
/// Most inputs of one part.
pub(super) const PART_INPUTS: usize = 256;
/// Tokens per character before the first answer. Texts of common languages have fewer.
const FIRST_RATE: f64 = 1.0;
/// Characters from which on an answer is used: below, special tokens and prompts are too large a share.
const MIN_CHARACTERS: usize = 1000;
/// Share of the difference by which an answer lowers the rate. An answer raises it at once.
const DECREASE: f64 = 0.5;

/// Tokens of the inputs of one model: exact for token ids, an estimate that tends to be high for texts.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenEstimate {
    /// Tokens per character of a text.
    pub rate: f64,
    /// Most tokens that the model reads of an input; none if that is not known.
    pub limit: Option<usize>,
}

impl Default for TokenEstimate {
    fn default() -> Self {
        Self {
            rate: FIRST_RATE,
            limit: None,
        }
    }
}

impl TokenEstimate {
    /// The tokens of one input, title included.
    pub fn size(&self, input: &EmbeddingRequestInput) -> usize {
        match input {
            EmbeddingRequestInput::Tokens(ids) => ids.len(),
            text => {
                let size = (self.rate * characters(text) as f64).round_ties_even() as usize;
                size.min(self.limit.unwrap_or(usize::MAX))
            }
        }
    }

    /// The number of inputs in the first part of a request with these inputs, at least one.
    pub fn first_part<'a>(&self, inputs: impl IntoIterator<Item = &'a EmbeddingRequestInput>) -> usize {
        let mut total = 0;
        let sizes = inputs.into_iter().take(PART_INPUTS).map(|input| self.size(input));
        let fits = |(number, size): &(usize, usize)| {
            total += size;
            *number == 0 || total <= PART_TOKENS
        };
        sizes.enumerate().take_while(fits).count()
    }

    /// Adjusts the rate to the number of tokens that a server read of texts without truncation.
    pub fn learn<'a>(&mut self, inputs: impl IntoIterator<Item = &'a EmbeddingRequestInput>, tokens: usize) {
        let characters: usize = inputs.into_iter().map(characters).sum();
        if characters >= MIN_CHARACTERS {
            let rate = tokens as f64 / characters as f64;
            self.rate = rate.max(self.rate + DECREASE * (rate - self.rate));
        }
    }
}

/// The characters of a text and its title; none for token ids.
fn characters(input: &EmbeddingRequestInput) -> usize {
    match input {
        EmbeddingRequestInput::Prompt(text) => text.chars().count(),
        EmbeddingRequestInput::Document { title, text } => title.chars().count() + text.chars().count(),
        EmbeddingRequestInput::Tokens(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize) -> EmbeddingRequestInput {
        EmbeddingRequestInput::Prompt("x".repeat(length))
    }

    #[test]
    fn sizes_are_those_of_the_python_client() {
        let mut estimate = TokenEstimate {
            limit: Some(512),
            ..TokenEstimate::default()
        };
        let ids = EmbeddingRequestInput::Tokens(vec![5, 6, 7]);
        assert_eq!(
            [&text(4), &text(10_000), &ids].map(|input| estimate.size(input)),
            [4, 512, 3]
        );
        let titled = EmbeddingRequestInput::Document {
            title: "äö".into(),
            text: "東京".into(),
        };
        assert_eq!(estimate.size(&titled), 4);
        estimate.learn([&EmbeddingRequestInput::Prompt("graphene ".repeat(400))], 900);
        assert_eq!(estimate.rate, 0.625);
        estimate.learn([&text(999)], 9000);
        assert_eq!(estimate.rate, 0.625, "a short text tells little");
        estimate.learn([&text(1000)], 900);
        assert_eq!(estimate.rate, 0.9, "a higher rate applies at once");
    }

    #[test]
    fn a_part_has_at_most_its_tokens_and_inputs() {
        let estimate = TokenEstimate::default();
        let first = |lengths: &[usize]| estimate.first_part(&lengths.iter().copied().map(text).collect::<Vec<_>>());
        assert_eq!(first(&[10; 300]), PART_INPUTS);
        assert_eq!(first(&[PART_TOKENS - 1, 1, 1]), 2);
        assert_eq!(first(&[PART_TOKENS + 1, 1]), 1);
    }
}
