//! Tokenizing on plain strings, in memory that is a small multiple of the text.
//!
//! The tokenizers library takes 130 to 570 bytes of memory for each byte of a text. It keeps the alignment of every
//! normalized byte, and a string and offsets for every token. The steps are the same here: added tokens, normalizer,
//! pre-tokenizer, model. Each word goes to a model, and long words in parts ([`merges`], [`unigram`]). It is also two to
//! four times as fast. The model is that of the library, or one of [`crate::tables`]. With that of the library, short
//! texts are left to the library; see [`crate::tokenizer`].

pub(crate) mod added;
mod classes;
pub(crate) mod merges;
mod normalize;
mod split;
#[cfg(test)]
mod testing;
mod unigram;

use crate::sink::{Sink, Stopped};
use crate::tables::model::{TableModel, WordToken};
use added::{AddedTokens, Part};
use normalize::Normalizer;
use split::{Place, Splitter};
use std::collections::HashMap;
use std::sync::OnceLock;
use tokenizers::{Model, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer as Library};
use unigram::Vocabulary;

/// Most bytes of a word that the library's model gets at once.
const WORD: usize = 16 * 1024;

/// Most bytes of a word whose ids are remembered while a text is encoded, and most such words.
const SHORT_WORD: usize = 32;
const KNOWN_WORDS: usize = 16 * 1024;

/// The model that encodes words.
#[derive(Clone, Copy)]
pub(crate) enum Words<'a> {
    Library(&'a ModelWrapper),
    Tables(&'a TableModel),
}

impl Words<'_> {
    /// Returns the tokens of a word.
    fn tokenize(self, word: &str) -> Result<Vec<WordToken>, String> {
        let model = match self {
            Self::Library(model) => model,
            Self::Tables(model) => return model.tokenize(word),
        };
        let tokens = model.tokenize(word).map_err(|error| error.to_string())?;
        let tokens = tokens.into_iter().map(|token| WordToken {
            start: token.offsets.0,
            end: token.offsets.1,
            id: token.id,
        });
        Ok(tokens.collect())
    }

    /// Returns whether a character is a token.
    fn knows(self, char: char) -> bool {
        match self {
            Self::Library(model) => model.token_to_id(char.encode_utf8(&mut [0; 4])).is_some(),
            Self::Tables(model) => model.knows(char),
        }
    }
}

/// How words that are long are encoded.
enum LongWords {
    /// By the library: the model returns one token (WordPiece, WordLevel).
    Whole,
    Merges(merges::Merges),
    /// The vocabulary is read at the first long word; `None` if it cannot be used.
    Unigram {
        unknown: Option<u32>,
        vocabulary: OnceLock<Option<Vocabulary>>,
    },
}

/// The parts of a tokenizer.
pub(crate) struct Plain {
    added: AddedTokens,
    normalizer: Normalizer,
    splitter: Splitter,
    long_words: LongWords,
}

impl Plain {
    /// `merges` is for a BPE model, and `unknown` the id of the unknown token of a Unigram model. Returns `None` if a part
    /// is not known.
    pub fn new(
        library: &Library,
        added: AddedTokens,
        merges: Option<merges::Merges>,
        unknown: Option<u32>,
    ) -> Option<Self> {
        let normalizer: Option<&NormalizerWrapper> = library.get_normalizer();
        let pre_tokenizer: Option<&PreTokenizerWrapper> = library.get_pre_tokenizer();
        let normalizer = Normalizer::new(normalizer)?;
        let splitter = Splitter::new(pre_tokenizer, normalizer.removes_spaces())?;
        if splitter.marks_first() && (splitter.len() > 1 || normalizer.may_remove()) {
            return None;
        }
        Some(Self {
            added,
            normalizer,
            splitter,
            long_words: match library.get_model() {
                ModelWrapper::BPE(_) => LongWords::Merges(merges?),
                ModelWrapper::Unigram(_) => LongWords::Unigram {
                    unknown,
                    vocabulary: OnceLock::new(),
                },
                _ => LongWords::Whole,
            },
        })
    }

    /// Returns the added tokens.
    pub fn added(&self) -> &AddedTokens {
        &self.added
    }

    /// Returns the encoder of one text, with the model of the same tokenizer.
    pub fn encoder<'a>(&'a self, words: Words<'a>) -> Encoder<'a> {
        Encoder {
            plain: self,
            words,
            known: HashMap::new(),
        }
    }
}

/// Encodes the pieces of one text.
pub(crate) struct Encoder<'a> {
    plain: &'a Plain,
    words: Words<'a>,
    /// Ids of short words of this text. Most words occur again, and the model needs longer than a look here.
    known: HashMap<String, Vec<u32>>,
}

impl Encoder<'_> {
    /// Adds the ids of a piece to `sink`. `continues` says that the piece is not the first one.
    pub fn encode(&mut self, piece: &str, continues: bool, sink: &mut Sink<'_>) -> Result<(), Stopped> {
        let plain = self.plain;
        let mut start = 0;
        plain.added.split(piece, |part| {
            let section = match part {
                Part::Token(id, end) => {
                    start = end;
                    sink.extend(&[id]);
                    return sink.check();
                }
                Part::Text(section) => section,
            };
            let continues = continues && start == 0;
            let normalized = plain.normalizer.normalize(section, continues);
            let mut inner = 0;
            plain.added.split_normalized(&normalized, |part| match part {
                Part::Token(id, end) => {
                    inner = end;
                    sink.extend(&[id]);
                    sink.check()
                }
                Part::Text(words) => {
                    let place = Place {
                        first: start == 0 && inner == 0 && !continues,
                        continues: continues && inner == 0,
                    };
                    plain
                        .splitter
                        .split(words, place, &mut |word| self.encode_word(word, sink))
                }
            })
        })
    }

    fn encode_word(&mut self, word: &str, sink: &mut Sink<'_>) -> Result<(), Stopped> {
        if let Some(ids) = self.known.get(word) {
            sink.extend(ids);
            return sink.check();
        }
        if word.len() > WORD {
            match &self.plain.long_words {
                LongWords::Whole => {}
                LongWords::Merges(merges) => return merges.encode(self.words, word, sink),
                LongWords::Unigram { unknown, vocabulary } => {
                    if let Words::Library(ModelWrapper::Unigram(model)) = self.words
                        && let Some(found) = vocabulary.get_or_init(|| Vocabulary::new(model, *unknown))
                    {
                        return found.encode(word, sink);
                    }
                }
            }
        }
        let tokens = self.words.tokenize(word)?;
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        sink.extend(&ids);
        if word.len() <= SHORT_WORD && self.known.len() < KNOWN_WORDS {
            self.known.insert(word.to_owned(), ids);
        }
        sink.check()
    }
}
