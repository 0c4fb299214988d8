//! The Unigram model on long words, in memory of 2 bytes for each byte of the word.
//!
//! The library keeps 32 bytes for each. The path with the best score is found as by the library, with the same sums of
//! scores in the same order, so that equal scores are decided alike. Only the scores of the last positions are kept, as
//! many as the longest token has bytes, and for each position the length of the token before it. As soon as all paths
//! to the last positions have a position in common, the tokens before it are final.

use crate::sink::{Sink, Stopped};
use crate::trie::Trie;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use tokenizers::Model;
use tokenizers::models::unigram::Unigram;

/// Difference of the score of an unknown character to the lowest score of a token.
const UNKNOWN_PENALTY: f64 = 10.0;

/// Bytes of a word after which final tokens are looked for.
const STRIDE: usize = 4096;

/// Marks the length of an unknown character.
const UNKNOWN: u16 = 1 << 15;

/// The vocabulary of a model in the form that long words need.
pub(super) struct Vocabulary {
    trie: Trie,
    scores: Vec<f64>,
    unknown: Option<u32>,
    unknown_score: f64,
    /// The tokens of bytes that unknown characters become.
    bytes: Option<Vec<u32>>,
}

impl Vocabulary {
    /// `unknown` is the id of the unknown token. `None`: a token is too long.
    pub fn new(model: &Unigram, unknown: Option<u32>) -> Option<Self> {
        let trie = Trie::new((0..).zip(model.iter()).map(|(id, (token, _))| (token.as_str(), id)));
        let byte_tokens = || {
            (0..=255u8)
                .map(|byte| model.token_to_id(&format!("<0x{byte:02X}>")))
                .collect()
        };
        (trie.longest < usize::from(UNKNOWN)).then(|| Self {
            scores: model.iter().map(|(_, score)| *score).collect(),
            unknown,
            unknown_score: model.min_score - UNKNOWN_PENALTY,
            bytes: if model.byte_fallback() { byte_tokens() } else { None },
            trie,
        })
    }

    /// Adds the ids of a word to `sink`.
    pub fn encode(&self, word: &str, sink: &mut Sink<'_>) -> Result<(), Stopped> {
        let mut paths = Paths::new(self.trie.longest);
        let mut output = Output {
            vocabulary: self,
            word,
            unknown: 0..0,
        };
        let mut next_check = STRIDE;
        for (start, char) in word.char_indices() {
            if start >= next_check {
                next_check = start + STRIDE;
                if let Some(last) = paths.common(word, start) {
                    output.add(&paths.take(last), sink)?;
                }
                sink.check()?;
            }
            let score = paths.score(start);
            let mut known = false;
            for (length, id) in self.trie.prefixes(&word.as_bytes()[start..]) {
                let mark = if Some(id) == self.unknown { UNKNOWN } else { 0 };
                paths.offer(start, length, mark, score + self.scores[id as usize]);
                known |= length == char.len_utf8();
            }
            if !known && paths.offer(start, char.len_utf8(), UNKNOWN, score + self.unknown_score) {
                self.unknown()?;
            }
        }
        output.add(&paths.take(word.len()), sink)?;
        output.end(sink)
    }

    fn unknown(&self) -> Result<u32, Stopped> {
        self.unknown
            .ok_or_else(|| Stopped::Failed("Encountered an unknown token but `unk_id` is missing".to_owned()))
    }
}

/// The best path to each position.
struct Paths {
    /// Score of the best path to a position and the first position that does not have one, by position modulo its size.
    scores: Vec<(f64, usize)>,
    /// Length of the last token of the best path to each position after `base`; 0 for positions that are not reached.
    lengths: Vec<u16>,
    /// The position whose path is final.
    base: usize,
}

impl Paths {
    fn new(longest: usize) -> Self {
        Self {
            scores: vec![(0.0, 0); (longest + 1).max(5).next_power_of_two()],
            lengths: Vec::new(),
            base: 0,
        }
    }

    fn score(&self, position: usize) -> f64 {
        let (score, of) = self.scores[position % self.scores.len()];
        if of == position { score } else { 0.0 }
    }

    /// Extends the path to `start` by a token, if the path is better than the one to its end. Returns whether it is.
    fn offer(&mut self, start: usize, length: usize, mark: u16, score: f64) -> bool {
        let end = start + length;
        let size = self.scores.len();
        let place = end - self.base - 1;
        if self.lengths.len() <= place {
            self.lengths.resize(place + 1, 0);
        }
        let best = &mut self.scores[end % size];
        if self.lengths[place] != 0 && score.partial_cmp(&best.0) != Some(Ordering::Greater) {
            return false;
        }
        *best = (score, end);
        self.lengths[place] = u16::try_from(length).unwrap_or_default() | mark;
        true
    }

    /// Returns the start of the last token of the path to `position`.
    fn before(&self, position: usize) -> usize {
        position - usize::from(self.lengths[position - self.base - 1] & !UNKNOWN)
    }

    /// Returns the last position that all paths have which end after `now`; `None` if there is none close to it.
    fn common(&self, word: &str, now: usize) -> Option<usize> {
        let reach = now.saturating_sub(self.scores.len()).max(self.base);
        let mut open: BTreeSet<usize> = (reach..=now).filter(|at| word.is_char_boundary(*at)).collect();
        let limit = now.saturating_sub(2 * STRIDE).max(self.base);
        loop {
            let last = open.pop_last()?;
            if open.is_empty() {
                return Some(last).filter(|last| *last > self.base);
            }
            if last <= limit {
                return None;
            }
            open.insert(self.before(last));
        }
    }

    /// Removes the tokens of the path from the base to `end`, and makes `end` the base. Returns them as (end, whether
    /// the token is unknown).
    fn take(&mut self, end: usize) -> Vec<(usize, bool)> {
        let mut tokens = Vec::new();
        let mut at = end;
        while at > self.base {
            tokens.push((at, self.lengths[at - self.base - 1] & UNKNOWN != 0));
            at = self.before(at);
        }
        tokens.reverse();
        self.lengths.drain(..end - self.base);
        self.base = end;
        tokens
    }
}

/// Writes ids, with the unknown characters of a run as one token.
struct Output<'a> {
    vocabulary: &'a Vocabulary,
    word: &'a str,
    /// The unknown characters before the next token, and where that begins.
    unknown: std::ops::Range<usize>,
}

impl Output<'_> {
    fn add(&mut self, tokens: &[(usize, bool)], sink: &mut Sink<'_>) -> Result<(), Stopped> {
        for (end, unknown) in tokens {
            let start = self.unknown.end;
            if *unknown {
                self.unknown.end = *end;
                continue;
            }
            self.end(sink)?;
            let token = &self.word[start..*end];
            let id = self.vocabulary.trie.get(token.as_bytes());
            sink.extend(&[id.ok_or_else(|| Stopped::Failed(format!("the token {token:?} has no id")))?]);
            self.unknown = *end..*end;
        }
        Ok(())
    }

    /// Writes the unknown characters.
    fn end(&mut self, sink: &mut Sink<'_>) -> Result<(), Stopped> {
        let text = &self.word[self.unknown.clone()];
        self.unknown.start = self.unknown.end;
        if text.is_empty() {
            return Ok(());
        }
        if let Some(id) = self.vocabulary.trie.get(text.as_bytes()) {
            sink.extend(&[id]);
        } else if let Some(bytes) = &self.vocabulary.bytes {
            for part in text.as_bytes().chunks(STRIDE) {
                let ids: Vec<u32> = part.iter().map(|byte| bytes[usize::from(*byte)]).collect();
                sink.extend(&ids);
            }
        } else {
            sink.extend(&[self.vocabulary.unknown()?]);
        }
        Ok(())
    }
}
