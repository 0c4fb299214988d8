//! A batch of token ids, checked once before any step runs on it.

use crate::error::{Error, Result};
use crate::kernels::pooling::Text;
use crate::lower::Positions;
use crate::model::Model;
use crate::program::Axis;
use std::borrow::Cow;

/// A checked batch.
pub struct Batch {
    /// Token ids of all texts.
    pub(super) ids: Vec<u32>,
    /// Position of each token in its text.
    pub(super) positions: Vec<u32>,
    pub(super) texts: Vec<Text>,
    /// Tokens of the longest text.
    pub(super) longest: usize,
}

impl Batch {
    /// Checks ids against the model's table and offsets against the ids; see [`Model::start`].
    pub(crate) fn new(ids: &[u32], cu_seqlens: &[u32], model: &Model) -> Result<Self> {
        let error = |reason: String| Err(Error::Batch(reason));
        if cu_seqlens.len() < 2 || cu_seqlens[0] != 0 || cu_seqlens[cu_seqlens.len() - 1] as usize != ids.len() {
            return error(format!(
                "cu_seqlens must begin with 0 and end with {}, the number of ids",
                ids.len()
            ));
        }
        if let Some(bad) = ids.iter().find(|id| **id as usize >= model.vocabulary) {
            return error(format!(
                "the id {bad} is outside the embedding table of {} ids",
                model.vocabulary
            ));
        }
        let mut batch = Self {
            ids: ids.to_vec(),
            positions: Vec::with_capacity(ids.len()),
            texts: Vec::new(),
            longest: 0,
        };
        for (row, ends) in cu_seqlens.windows(2).enumerate() {
            let len = ends[1].saturating_sub(ends[0]) as usize;
            if len < model.min_tokens || ends[0] > ends[1] || model.max_tokens.is_some_and(|most| len > most) {
                return error(format!(
                    "row {row} has {len} tokens; the model takes {} to {}",
                    model.min_tokens,
                    model.max_tokens.unwrap_or(ids.len())
                ));
            }
            batch.positions.extend(0..len as u32);
            batch.texts.push(Text {
                start: ends[0] as usize,
                len,
                row,
            });
            batch.longest = batch.longest.max(len);
        }
        Ok(batch)
    }

    /// Returns the row of a position table for each token.
    pub(super) fn places(&self, table: &Positions) -> Cow<'_, [u32]> {
        let offset = table.offset as u32; // the table has a row for every token of a text, and these fit into 32 bits
        let padding = table.padding.filter(|padding| self.ids.contains(padding));
        match padding {
            None if offset == 0 => Cow::Borrowed(&self.positions),
            None => self.positions.iter().map(|position| offset + position).collect(),
            Some(padding) => {
                let mut places = Vec::with_capacity(self.ids.len());
                for text in &self.texts {
                    let mut next = offset;
                    places.extend(self.ids[text.start..text.start + text.len].iter().map(|id| {
                        let counts = *id != padding;
                        next += u32::from(counts);
                        if counts { next - 1 } else { offset - 1 }
                    }));
                }
                Cow::Owned(places)
            }
        }
    }

    /// Returns the number of rows of a buffer with this axis.
    pub(super) fn rows(&self, axis: Axis) -> usize {
        if axis == Axis::Tokens {
            self.ids.len()
        } else {
            self.texts.len()
        }
    }
}
