//! The two threads of a model: one makes token ids, the other one computes. Requests pass through both in the order of
//! their arrival.
//!
//! No caller is blocked: a request is sent to the first thread, and its future wakes when its vectors are ready. Rows of
//! many requests share batches, and an error of one request does not fail another one. When a future is dropped, its rows
//! leave the queue. A running batch stops at its next step when all of its requests are cancelled.

use crate::blocking::spawn;
use crate::embeddings::Embeddings;
use crate::engine::{Engine, pack};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::options::LoadOptions;
use crate::queue::{Queue, QueuedRow};
use crate::request::EmbeddingRequest;
use embergem_core::{Error as Core, Lane};
use embergem_text::Row;
use futures_channel::oneshot;
use log::{info, warn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Rows that are computed together.
type Batch = Vec<QueuedRow<Arc<Job>>>;

/// A loaded model with its threads. The threads end when the worker is dropped.
pub(crate) struct Worker {
    requests: Sender<(EmbeddingRequest, Arc<Job>)>,
    shared: Arc<Shared>,
}

/// What the threads and the callers share.
struct Shared {
    engine: Engine,
    state: Mutex<State>,
    changed: Condvar,
    throughput_logging: bool,
}

struct State {
    queue: Queue<Arc<Job>>,
    /// Whether the queue has the best size of a batch.
    measured: bool,
    /// The requests of the running batch.
    running: Vec<Arc<Job>>,
    /// Stops the running batch.
    stop: Arc<AtomicBool>,
    closed: bool,
}

/// Cancels a request when its future is dropped before the result arrived.
struct CancelOnDrop<'a> {
    worker: &'a Worker,
    cancelled: Arc<AtomicBool>,
    answered: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.cancelled.store(true, Ordering::Relaxed);
            self.worker.shared.remove_cancelled();
        }
    }
}

impl Worker {
    /// Starts the threads of a loaded model.
    ///
    /// # Errors
    /// [`Error::Management`] if the system has no more threads.
    pub fn start(engine: Engine, options: &LoadOptions) -> Result<Self> {
        let measured = engine.is_measured();
        let queue = Queue::new(engine.max_batch_tokens(), options.max_num_seqs.unwrap_or(usize::MAX));
        let shared = Arc::new(Shared {
            engine,
            state: Mutex::new(State {
                queue,
                measured,
                running: Vec::new(),
                stop: Arc::default(),
                closed: false,
            }),
            changed: Condvar::new(),
            throughput_logging: options.throughput_logging,
        });
        let (requests, received) = mpsc::channel();
        let (texts, batches) = (Arc::clone(&shared), Arc::clone(&shared));
        spawn("texts", move || texts.tokenize(&received))?;
        spawn("compute", move || batches.compute())?;
        Ok(Self { requests, shared })
    }

    /// The model.
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// Whether the threads have ended, so that every further request fails.
    pub fn is_closed(&self) -> bool {
        self.shared.state().closed
    }

    /// Ends the threads, as a panic in one of them does.
    #[cfg(test)]
    pub fn close(&self) {
        self.shared.close();
    }

    /// Sends a request to the threads, and waits for its vectors without blocking.
    ///
    /// # Errors
    /// Those of [`crate::EmbeddingModel::generate_embeddings`].
    pub async fn embed(&self, request: EmbeddingRequest) -> Result<Embeddings> {
        let dimensions = self.engine().dimensions(request.dimensions)?;
        let (sender, receiver) = oneshot::channel();
        let mut guard = CancelOnDrop {
            worker: self,
            cancelled: Arc::default(),
            answered: false,
        };
        let job = Arc::new(Job::new(sender, dimensions, Arc::clone(&guard.cancelled)));
        self.requests.send((request, job)).map_err(|_| Error::Closed)?;
        let result = receiver.await.unwrap_or(Err(Error::Closed));
        guard.answered = true;
        result
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.stop.store(true, Ordering::Relaxed);
        state.queue.retain(|_| false);
        self.changed.notify_all();
    }

    /// Removes the rows of cancelled requests from the queue, and stops the running batch if all of its requests are
    /// cancelled.
    fn remove_cancelled(&self) {
        let mut state = self.state();
        state.queue.retain(|job| !job.is_cancelled());
        if !state.running.is_empty() && state.running.iter().all(|job| job.is_cancelled()) {
            state.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Work of the first thread: from requests to queued rows.
    fn tokenize(&self, requests: &Receiver<(EmbeddingRequest, Arc<Job>)>) {
        let _close = CloseOnDrop(self);
        for (request, job) in requests {
            if job.is_cancelled() {
                continue;
            }
            match self.engine.prepare(&request) {
                Ok(rows) => self.add(&job, rows),
                Err(error) => job.finish(Err(error)),
            }
        }
    }

    fn add(&self, job: &Arc<Job>, rows: Vec<Row>) {
        job.set_rows(&rows);
        let mut state = self.state();
        if state.closed {
            job.finish(Err(Error::Closed));
        } else if !job.is_cancelled() {
            let rows = rows.into_iter().enumerate();
            state.queue.add(rows.map(|(index, row)| QueuedRow {
                request: Arc::clone(job),
                index,
                ids: row.ids,
            }));
            self.changed.notify_all();
        }
    }

    /// Work of the second thread: from batches to vectors.
    fn compute(&self) {
        let _close = CloseOnDrop(self);
        while let Some((batch, stop)) = self.next_batch() {
            self.run(&batch, &stop);
        }
    }

    /// Computes rows and gives the vectors to their requests. If a vector is not finite, each request is computed alone,
    /// so that only the request of that vector fails.
    fn run(&self, rows: &[QueuedRow<Arc<Job>>], stop: &AtomicBool) {
        let start = Instant::now();
        let (ids, cu_seqlens) = pack(rows.iter().map(|row| row.ids.as_slice()));
        match self.engine.run(&ids, &cu_seqlens, lane(rows), stop) {
            Ok(Some(vectors)) => self.deliver(rows, vectors),
            Ok(None) => return, // all requests are cancelled, or the model is closed
            Err(Core::NonFinite { .. }) if !rows.iter().all(|row| is_same_request(row, &rows[0])) => {
                return rows.chunk_by(is_same_request).for_each(|own| self.run(own, stop));
            }
            Err(Core::NonFinite { row }) => self.fail(rows, &not_finite(rows[row].index)),
            Err(error) => self.fail(rows, &error.into()),
        }
        if self.throughput_logging {
            let seconds = start.elapsed().as_secs_f64();
            info!(
                "{}: {} rows, {} tokens in {:.1} ms, {:.0} tokens/s",
                self.engine.info.id,
                rows.len(),
                ids.len(),
                seconds * 1e3,
                ids.len() as f64 / seconds
            );
        }
    }

    /// Waits for queued rows. Returns none when the model is closed.
    fn next_batch(&self) -> Option<(Batch, Arc<AtomicBool>)> {
        let mut state = self.state();
        state.running.clear();
        loop {
            if state.closed {
                return None;
            }
            if !state.measured && state.queue.exceeds_batch(|job| job.is_bulk()) {
                state = self.measure(state);
                continue;
            }
            let batch = state.queue.next_batch();
            if !batch.is_empty() {
                state.stop = Arc::default();
                state.running = batch.iter().map(|row| Arc::clone(&row.request)).collect();
                return Some((batch, Arc::clone(&state.stop)));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Measures the best size of a batch, which only matters to a queue that is larger than the smallest size. If that
    /// fails, batches keep the size that they have.
    fn measure<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.measured = true;
        state.stop = Arc::default();
        let stop = Arc::clone(&state.stop);
        drop(state);
        let found = self.engine.measure(&stop);
        let mut state = self.state();
        match found {
            Ok(tokens) => state.queue.set_max_tokens(tokens),
            Err(Core::Cancelled) => {} // the model is closed
            Err(error) => warn!(
                "{}: the best size of a batch could not be measured: {error}",
                self.engine.info.id
            ),
        }
        state
    }

    /// Fails every request with a row in the batch, and removes their other rows from the queue.
    fn fail(&self, rows: &[QueuedRow<Arc<Job>>], error: &Error) {
        for row in rows {
            row.request.finish(Err(copy(error)));
            row.request.cancel();
        }
        self.remove_cancelled();
    }

    fn deliver(&self, rows: &[QueuedRow<Arc<Job>>], vectors: Vec<f32>) {
        let first = &rows[0].request;
        if first.rows() == rows.len() && rows.iter().all(|row| is_same_request(row, &rows[0])) {
            return first.finish_with(&self.engine, vectors);
        }
        for (row, vector) in rows.iter().zip(vectors.chunks_exact(self.engine.info.dimensions)) {
            if let Some(all) = row.request.store(row.index, vector) {
                row.request.finish_with(&self.engine, all);
            }
        }
    }
}

/// Closes the model when one of its threads ends, also by a panic, so that no future waits for ever.
struct CloseOnDrop<'a>(&'a Shared);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
        self.0.state().running.clear();
    }
}

fn is_same_request(a: &QueuedRow<Arc<Job>>, b: &QueuedRow<Arc<Job>>) -> bool {
    Arc::ptr_eq(&a.request, &b.request)
}

/// The lane of a batch: bulk if all of its requests are bulk.
fn lane(rows: &[QueuedRow<Arc<Job>>]) -> Lane {
    if rows.iter().all(|row| row.request.is_bulk()) {
        Lane::Bulk
    } else {
        Lane::Interactive
    }
}

/// A copy of the error of a batch, for one of its requests.
fn copy(error: &Error) -> Error {
    match error {
        Error::NonFiniteOutput(message) => Error::NonFiniteOutput(message.clone()),
        Error::ModelFailed(message) => Error::ModelFailed(message.clone()),
        Error::InsufficientMemory(message) => Error::InsufficientMemory(message.clone()),
        other => Error::RequestValidation(other.to_string()),
    }
}

/// The error for a vector that is not finite. `index` is the position of its input in the request.
fn not_finite(index: usize) -> Error {
    Error::NonFiniteOutput(format!(
        "the vector of input {index} is not finite; nothing was returned"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::BULK_TOKENS;

    fn row(tokens: usize) -> QueuedRow<Arc<Job>> {
        QueuedRow {
            request: Arc::new(Job::of_tokens(tokens)),
            index: 0,
            ids: vec![7],
        }
    }

    #[test]
    fn a_batch_is_bulk_if_all_of_its_requests_are() {
        assert_eq!(lane(&[row(BULK_TOKENS)]), Lane::Interactive);
        assert_eq!(lane(&[row(BULK_TOKENS + 1), row(9000)]), Lane::Bulk);
        assert_eq!(lane(&[row(BULK_TOKENS + 1), row(3)]), Lane::Interactive);
    }
}
