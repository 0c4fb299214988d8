//! A batch, checked once before anything runs on it.

use crate::error::{Error, Result};
use crate::kernels::pooling::Text;
use crate::memory;
use crate::model::Model;
use crate::program::Axis;

/// A checked batch.
pub struct Batch {
    pub(super) ids: Vec<u32>,
    pub(super) places: Vec<u32>,
    pub(super) texts: Vec<Text>,
    pub(super) longest: usize,
}

impl Batch {
    /// Checks ids against the model's tables and offsets against the ids.
    pub(crate) fn new(ids: &[u32], cu_seqlens: &[u32], model: &Model) -> Result<Self> {
        let wrong = |reason: String| Err(Error::Batch(reason));
        if cu_seqlens.len() < 2 || cu_seqlens[0] != 0 || cu_seqlens[cu_seqlens.len() - 1] as usize != ids.len() {
            return wrong(format!("cu_seqlens must run from 0 to the {} ids", ids.len()));
        }
        if let Some(bad) = ids.iter().find(|id| **id as usize >= model.vocabulary) {
            return wrong(format!(
                "the id {bad} is outside the table of {} rows",
                model.vocabulary
            ));
        }
        let mut batch = Self {
            ids: ids.to_vec(),
            places: Vec::with_capacity(ids.len()),
            texts: Vec::new(),
            longest: 0,
        };
        for (row, ends) in cu_seqlens.windows(2).enumerate() {
            let len = ends[1].saturating_sub(ends[0]) as usize;
            if len < model.least_tokens || ends[0] > ends[1] || model.places.is_some_and(|places| len > places) {
                return wrong(format!(
                    "row {row} has {len} tokens; {} to {} fit",
                    model.least_tokens,
                    model.places.unwrap_or(ids.len())
                ));
            }
            batch.places.extend(0..len as u32);
            batch.texts.push(Text {
                start: ends[0] as usize,
                len,
                row,
            });
            batch.longest = batch.longest.max(len);
        }
        batch.require_memory(model)?;
        Ok(batch)
    }

    /// Refuses what the buffers of this batch cannot be made for: an allocation that fails ends the process.
    fn require_memory(&self, model: &Model) -> Result<()> {
        const SMALL: u64 = 1 << 30;
        let bytes = model.buffers.iter().fold(0u64, |sum, buffer| {
            let floats = (buffer.width as u64).saturating_mul(self.rows(buffer.axis) as u64);
            sum.saturating_add(floats.saturating_mul(4))
        });
        match (bytes > SMALL).then(memory::available).flatten() {
            Some(available) if bytes > available => Err(Error::Batch(format!(
                "its {} tokens need {} MB of buffers and {} MB are free; send fewer at a time",
                self.ids.len(),
                bytes >> 20,
                available >> 20
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn rows(&self, axis: Axis) -> usize {
        if axis == Axis::Tokens {
            self.ids.len()
        } else {
            self.texts.len()
        }
    }
}
