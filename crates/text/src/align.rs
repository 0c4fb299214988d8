//! The tokens of a text with their positions in it, for people who look at how a model reads a text.

use crate::Template;
use crate::tokenizer::{Tokenizer, catch_panics};
use std::borrow::Cow;
use tokenizers::Tokenizer as Library;

/// One token of an input, special tokens included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlignedToken {
    /// Index in the vocabulary.
    pub id: u32,
    /// The entry of the vocabulary, such as `##ing` or `▁the`.
    pub token: String,
    /// First and end position of the token in [`Aligned::text`], in characters. `None` for the special tokens around
    /// the text.
    pub span: Option<(usize, usize)>,
    /// Whether the model reads the token. It does not read tokens that are cut, and unknown ones of some static models.
    pub kept: bool,
}

/// One input as the tokenizer gets it, and all its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aligned {
    /// The text with its prompt.
    pub text: String,
    /// All tokens before truncation, in order.
    pub tokens: Vec<AlignedToken>,
}

impl Aligned {
    /// Puts the prompt before `text` and aligns the tokens with the result.
    ///
    /// The tokenizers library keeps the alignment of every byte, so this takes up to 570 bytes of memory for each byte
    /// of the text. `Err` is the reason why the library failed.
    pub(crate) fn new(
        tokenizer: &Tokenizer,
        library: &Library,
        text: &str,
        prompt: Option<&Template>,
        title: Option<&str>,
        limit: usize,
    ) -> Result<Self, String> {
        let head = prompt.map_or_else(Cow::default, |template| template.head(title));
        let text = [&head, text].concat();
        let encoding = catch_panics(|| {
            let encoding = library.encode_char_offsets(text.as_str(), false);
            encoding.map_err(|error| error.to_string())
        })?;
        let kept = tokenizer.kept(encoding.len(), limit);
        let (before, after) = tokenizer.special_around();
        let special = |id: &u32| AlignedToken {
            id: *id,
            token: library.id_to_token(*id).unwrap_or_default(),
            span: None,
            kept: true,
        };
        let inner = encoding.get_ids().iter().zip(encoding.get_offsets()).enumerate();
        let inner = inner.map(|(position, (id, span))| AlignedToken {
            id: *id,
            token: library.id_to_token(*id).unwrap_or_default(),
            span: Some(*span),
            kept: kept.contains(&position) && !tokenizer.removes(*id),
        });
        let tokens = before.iter().map(special).chain(inner);
        let tokens = tokens.chain(after.iter().map(special)).collect();
        Ok(Self { text, tokens })
    }
}
