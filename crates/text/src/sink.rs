//! Where the token ids of a text go: the first or the last ones are kept, all are counted.

use std::sync::atomic::{AtomicBool, Ordering};

/// Why tokenizing stopped before the end of a text.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The caller stopped it.
    Cancelled,
    /// There are more tokens than wanted.
    Enough,
    /// The tokenizers library failed, with this reason.
    Failed(String),
}

impl From<String> for Stopped {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

/// Which ids of a text are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Number of ids to keep.
    pub kept: usize,
    /// Keep the last ids instead of the first ones.
    pub last: bool,
    /// Stop as soon as there are more ids than are kept.
    pub stop: bool,
}

impl Wanted {
    /// All ids.
    pub const ALL: Self = Self {
        kept: usize::MAX,
        last: false,
        stop: false,
    };
}

/// Collects the ids of a text.
pub(crate) struct Sink<'a> {
    wanted: Wanted,
    cancelled: &'a AtomicBool,
    ids: Vec<u32>,
    /// Ids so far.
    pub count: usize,
}

impl<'a> Sink<'a> {
    pub fn new(wanted: Wanted, cancelled: &'a AtomicBool) -> Self {
        Self {
            wanted,
            cancelled,
            ids: Vec::new(),
            count: 0,
        }
    }

    /// Adds ids.
    pub fn extend(&mut self, ids: &[u32]) {
        self.count += ids.len();
        if self.wanted.last {
            self.ids.extend(ids);
            // Twice as many as wanted are kept at times, so that they are moved seldom.
            if self.ids.len() / 2 > self.wanted.kept {
                self.drop_first();
            }
        } else {
            let room = self.wanted.kept - self.ids.len();
            self.ids.extend(&ids[..ids.len().min(room)]);
        }
    }

    /// Returns an error if tokenizing is to stop. To be called at least once in 64 KiB of a text.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Stopped::Cancelled);
        }
        if self.wanted.stop && self.count > self.wanted.kept {
            return Err(Stopped::Enough);
        }
        Ok(())
    }

    /// Returns the wanted ids.
    pub fn into_ids(mut self) -> Vec<u32> {
        if self.wanted.last {
            self.drop_first();
        }
        self.ids
    }

    fn drop_first(&mut self) {
        let surplus = self.ids.len().saturating_sub(self.wanted.kept);
        self.ids.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_or_the_last_ids_are_kept_and_all_are_counted() {
        let cancelled = AtomicBool::new(false);
        for (last, expected) in [(false, [0, 1, 2]), (true, [97, 98, 99])] {
            let wanted = Wanted {
                kept: 3,
                last,
                stop: true,
            };
            let mut sink = Sink::new(wanted, &cancelled);
            sink.extend(&[0, 1, 2]);
            sink.check().unwrap();
            (3..100).for_each(|id| sink.extend(&[id]));
            assert!(matches!(sink.check(), Err(Stopped::Enough)));
            assert_eq!(sink.count, 100);
            assert_eq!(sink.into_ids(), expected);
        }
    }
}
