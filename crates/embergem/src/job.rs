//! One request in the worker: its rows, its vectors so far, and the channel to its future.

use crate::embeddings::Embeddings;
use crate::engine::Engine;
use crate::error::Result;
use embergem_text::Row;
use futures_channel::oneshot;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A request of more tokens than this is bulk: requests with fewer tokens go first, whatever their model.
pub(crate) const BULK_TOKENS: usize = 1024;

/// A request in the worker. Only the worker's threads and the queue hold it. When they drop it, the channel closes, and
/// the future of the request ends with [`crate::Error::Closed`].
pub(crate) struct Job {
    cancelled: Arc<AtomicBool>,
    result: Mutex<Partial>,
}

/// What is known of the result so far.
#[derive(Default)]
struct Partial {
    sender: Option<oneshot::Sender<Result<Embeddings>>>,
    dimensions: usize,
    rows: usize,
    missing: usize,
    tokens: usize,
    truncated: Vec<usize>,
    vectors: Vec<f32>,
}

impl Job {
    /// A request for vectors of this size. `cancelled` becomes true when its future is dropped.
    pub fn new(sender: oneshot::Sender<Result<Embeddings>>, dimensions: usize, cancelled: Arc<AtomicBool>) -> Self {
        Self {
            cancelled,
            result: Mutex::new(Partial {
                sender: Some(sender),
                dimensions,
                ..Partial::default()
            }),
        }
    }

    /// Whether the result is not needed any more.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Marks that no further row of the request needs to be computed.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether other requests go first.
    pub fn is_bulk(&self) -> bool {
        self.result().tokens > BULK_TOKENS
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.result().rows
    }

    /// Sets the rows of the request, before any vector is stored.
    pub fn set_rows(&self, rows: &[Row]) {
        let mut result = self.result();
        result.rows = rows.len();
        result.missing = rows.len();
        result.tokens = rows.iter().map(|row| row.ids.len()).sum();
        let cut = |(index, row): (usize, &Row)| (row.length > row.ids.len()).then_some(index);
        result.truncated = rows.iter().enumerate().filter_map(cut).collect();
    }

    /// Stores the vector of row `index`. Returns all vectors when the last one is stored.
    pub fn store(&self, index: usize, vector: &[f32]) -> Option<Vec<f32>> {
        let mut result = self.result();
        // The queue keeps the order of rows, so each vector comes after that of the row before.
        debug_assert_eq!(result.vectors.len(), index * vector.len());
        if index == 0 {
            let floats = result.rows * vector.len();
            result.vectors.reserve_exact(floats);
        }
        result.vectors.extend_from_slice(vector);
        result.missing -= 1;
        (result.missing == 0).then(|| std::mem::take(&mut result.vectors))
    }

    /// Answers the request with all of its vectors, in full size.
    pub fn finish_with(&self, engine: &Engine, vectors: Vec<f32>) {
        let mut result = self.result();
        let embeddings = Embeddings {
            vectors: engine.cut(vectors, result.dimensions),
            dimensions: result.dimensions,
            tokens: result.tokens,
            truncated: std::mem::take(&mut result.truncated),
        };
        drop(result);
        self.finish(Ok(embeddings));
    }

    /// Answers the request, unless it was answered before.
    pub fn finish(&self, result: Result<Embeddings>) {
        if let Some(sender) = self.result().sender.take() {
            drop(sender.send(result)); // the future may have been dropped
        }
    }

    fn result(&self) -> MutexGuard<'_, Partial> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that needs no engine.
    #[cfg(test)]
    pub fn of_tokens(tokens: usize) -> Self {
        Self {
            cancelled: Arc::default(),
            result: Mutex::new(Partial {
                tokens,
                ..Partial::default()
            }),
        }
    }
}
