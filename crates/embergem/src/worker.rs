//! The two threads of a model: one makes token ids, one computes. Requests go through both in the order they came.
//!
//! No caller is ever blocked: a request is handed over, and its future wakes when the vectors are there. Rows of many
//! requests share batches, and none fails for another's. A future that is dropped takes its rows out of the queue, and stops the batch in work at its
//! next step once nobody waits for it any more.

use crate::embeddings::Embeddings;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::queue::{Queue, Waiting};
use crate::request::EmbeddingRequest;
use crate::settings::Settings;
use embergem_core::{Error as Core, Lane};
use embergem_text::Row;
use futures_channel::oneshot;
use log::info;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

/// Tokens of one batch: enough to keep every core busy, few enough that a small request behind it waits little.
const MAX_BATCH_TOKENS: usize = 4096;
/// A request of more tokens is bulk: others of this process, of whatever model, go first.
const LARGE_TOKENS: usize = 1024;

/// Rows that are computed together.
type Batch = Vec<Waiting<Arc<Job>>>;

/// A loaded model with its threads; they end when it is dropped.
pub(crate) struct Worker {
    orders: Sender<(EmbeddingRequest, Arc<Job>)>,
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
    working: Vec<Arc<Job>>,
    stop: Arc<AtomicBool>,
    closed: bool,
}

/// One request in work. Only the threads and the queue hold it: when they let go of it, its future learns of that.
struct Job {
    dropped: Arc<AtomicBool>,
    answer: Mutex<Answer>,
}

#[derive(Default)]
struct Answer {
    sender: Option<oneshot::Sender<Result<Embeddings>>>,
    size: usize,
    rows: usize,
    missing: usize,
    tokens: usize,
    truncated: Vec<usize>,
    vectors: Vec<f32>,
}

/// Marks its job as given up when the future that holds it is dropped before the answer came.
struct Held<'a> {
    worker: &'a Worker,
    dropped: Arc<AtomicBool>,
    answered: bool,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.dropped.store(true, Ordering::Relaxed);
            self.worker.shared.forget();
        }
    }
}

impl Worker {
    /// Starts the threads of a loaded model.
    pub fn start(engine: Engine, settings: &Settings) -> Result<Self> {
        let queue = Queue::new(MAX_BATCH_TOKENS, settings.max_num_seqs.unwrap_or(usize::MAX));
        let shared = Arc::new(Shared {
            engine,
            state: Mutex::new(State {
                queue,
                working: Vec::new(),
                stop: Arc::default(),
                closed: false,
            }),
            changed: Condvar::new(),
            throughput_logging: settings.throughput_logging,
        });
        let (orders, received) = mpsc::channel();
        let (texts, computes) = (Arc::clone(&shared), Arc::clone(&shared));
        spawn("embergem texts", move || texts.tokenize(&received))?;
        spawn("embergem compute", move || computes.compute())?;
        Ok(Self { orders, shared })
    }

    /// The model.
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// Whether its threads have ended, so that it answers nothing any more.
    pub fn is_closed(&self) -> bool {
        self.shared.state().closed
    }

    /// Ends its threads, as a panic in one of them does.
    #[cfg(test)]
    pub fn close(&self) {
        self.shared.close();
    }

    /// Hands a request over and waits for its vectors without blocking.
    pub async fn embed(&self, request: EmbeddingRequest) -> Result<Embeddings> {
        let size = self.engine().dimensions(request.dimensions)?;
        let (sender, receiver) = oneshot::channel();
        let mut held = Held {
            worker: self,
            dropped: Arc::default(),
            answered: false,
        };
        let job = Arc::new(Job {
            dropped: Arc::clone(&held.dropped),
            answer: Mutex::new(Answer {
                sender: Some(sender),
                size,
                ..Answer::default()
            }),
        });
        self.orders.send((request, job)).map_err(|_| Error::Closed)?;
        let answer = receiver.await.unwrap_or(Err(Error::Closed));
        held.answered = true;
        answer
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

    /// Takes out what nobody waits for.
    fn forget(&self) {
        let mut state = self.state();
        state.queue.retain(|job| !job.is_dropped());
        if !state.working.is_empty() && state.working.iter().all(|job| job.is_dropped()) {
            state.stop.store(true, Ordering::Relaxed);
        }
    }

    /// The first thread: requests to rows.
    fn tokenize(&self, orders: &Receiver<(EmbeddingRequest, Arc<Job>)>) {
        let _closing = Closing(self);
        for (request, job) in orders {
            if job.is_dropped() {
                continue;
            }
            match self.engine.prepare(&request) {
                Ok(rows) => self.add(&job, rows),
                Err(error) => job.finish(Err(error)),
            }
        }
    }

    fn add(&self, job: &Arc<Job>, rows: Vec<Row>) {
        job.expect(&rows);
        let mut state = self.state();
        if state.closed {
            job.finish(Err(Error::Closed));
        } else if !job.is_dropped() {
            let rows = rows.into_iter().enumerate();
            state.queue.add(rows.map(|(index, row)| Waiting {
                key: Arc::clone(job),
                index,
                ids: row.ids,
            }));
            self.changed.notify_all();
        }
    }

    /// The second thread: batches to vectors.
    fn compute(&self) {
        let _closing = Closing(self);
        while let Some((batch, stop)) = self.next_batch() {
            self.answer(&batch, &stop);
        }
    }

    /// Computes rows and gives each to its request. Where a vector is not finite the requests are computed one by one, so
    /// that only its owner fails.
    fn answer(&self, rows: &[Waiting<Arc<Job>>], stop: &AtomicBool) {
        let start = Instant::now();
        let mut ids = Vec::new();
        let mut ends = vec![0];
        for row in rows {
            ids.extend_from_slice(&row.ids);
            ends.push(ids.len() as u32);
        }
        match self.engine.run(&ids, &ends, lane(rows), stop) {
            Ok(Some(vectors)) => self.deliver(rows, vectors),
            Ok(None) => return, // everybody has gone, or the model is closed
            Err(Core::NonFinite { .. }) if !rows.iter().all(|row| same(row, &rows[0])) => {
                return rows.chunk_by(same).for_each(|own| self.answer(own, stop));
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

    /// Waits for rows; none once the model is closed.
    fn next_batch(&self) -> Option<(Batch, Arc<AtomicBool>)> {
        let mut state = self.state();
        state.working.clear();
        loop {
            if state.closed {
                return None;
            }
            let batch = state.queue.next_batch();
            if !batch.is_empty() {
                state.stop = Arc::default();
                state.working = batch.iter().map(|row| Arc::clone(&row.key)).collect();
                return Some((batch, Arc::clone(&state.stop)));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Fails every request that has a row in the batch, and takes out the rest of their rows.
    fn fail(&self, batch: &[Waiting<Arc<Job>>], error: &Error) {
        for row in batch {
            row.key.finish(Err(again(error)));
            row.key.dropped.store(true, Ordering::Relaxed);
        }
        self.forget();
    }

    fn deliver(&self, batch: &[Waiting<Arc<Job>>], vectors: Vec<f32>) {
        let width = self.engine.info.dimensions;
        let first = &batch[0].key;
        if first.answer().rows == batch.len() && batch.iter().all(|row| same(row, &batch[0])) {
            return first.finish_with(&self.engine, vectors);
        }
        for (row, vector) in batch.iter().zip(vectors.chunks_exact(width)) {
            if let Some(all) = row.key.put(row.index, vector) {
                row.key.finish_with(&self.engine, all);
            }
        }
    }
}

impl Job {
    fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Relaxed)
    }

    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was read.
    fn expect(&self, rows: &[Row]) {
        let mut answer = self.answer();
        answer.rows = rows.len();
        answer.missing = rows.len();
        answer.tokens = rows.iter().map(|row| row.ids.len()).sum();
        let cut = |(index, row): (usize, &Row)| (row.length > row.ids.len()).then_some(index);
        answer.truncated = rows.iter().enumerate().filter_map(cut).collect();
    }

    /// Stores the vector of row `index`; gives all of them with the last one.
    fn put(&self, index: usize, vector: &[f32]) -> Option<Vec<f32>> {
        let mut answer = self.answer();
        // Rows come in order, so that the next one belongs at the end.
        debug_assert_eq!(answer.vectors.len(), index * vector.len());
        if index == 0 {
            let floats = answer.rows * vector.len();
            answer.vectors.reserve_exact(floats);
        }
        answer.vectors.extend_from_slice(vector);
        answer.missing -= 1;
        (answer.missing == 0).then(|| std::mem::take(&mut answer.vectors))
    }

    fn finish_with(&self, engine: &Engine, vectors: Vec<f32>) {
        let mut answer = self.answer();
        let embeddings = Embeddings {
            vectors: engine.cut(vectors, answer.size),
            dimensions: answer.size,
            tokens: answer.tokens,
            truncated: std::mem::take(&mut answer.truncated),
        };
        drop(answer);
        self.finish(Ok(embeddings));
    }

    fn finish(&self, result: Result<Embeddings>) {
        if let Some(sender) = self.answer().sender.take() {
            drop(sender.send(result)); // nobody may wait any more
        }
    }
}

/// Closes the model when its thread ends, whatever ended it, so that no request waits for ever.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
        self.0.state().working.clear();
    }
}

/// Whether two rows are of one request.
fn same(a: &Waiting<Arc<Job>>, b: &Waiting<Arc<Job>>) -> bool {
    Arc::ptr_eq(&a.key, &b.key)
}

/// How urgent a batch is: as the most urgent of its requests.
fn lane(rows: &[Waiting<Arc<Job>>]) -> Lane {
    let large = |row: &Waiting<Arc<Job>>| row.key.answer().tokens > LARGE_TOKENS;
    if rows.iter().all(large) {
        Lane::Bulk
    } else {
        Lane::Interactive
    }
}

/// The error of a batch for each of its requests.
fn again(error: &Error) -> Error {
    match error {
        Error::NonFiniteOutput(message) => Error::NonFiniteOutput(message.clone()),
        other => Error::RequestValidation(other.to_string()),
    }
}

/// The error of a row, counted as its caller counts.
fn not_finite(index: usize) -> Error {
    Error::NonFiniteOutput(format!(
        "the vector of input {index} is not finite; nothing was returned"
    ))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    match thread::Builder::new().name(name.to_owned()).spawn(work) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Management(format!("no thread could be started: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tokens: usize) -> Waiting<Arc<Job>> {
        let answer = Answer {
            tokens,
            ..Answer::default()
        };
        Waiting {
            key: Arc::new(Job {
                dropped: Arc::default(),
                answer: Mutex::new(answer),
            }),
            index: 0,
            ids: vec![7],
        }
    }

    #[test]
    fn a_batch_is_bulk_where_nobody_in_it_asked_for_little() {
        assert_eq!(lane(&[row(LARGE_TOKENS)]), Lane::Interactive);
        assert_eq!(lane(&[row(LARGE_TOKENS + 1), row(9000)]), Lane::Bulk);
        assert_eq!(lane(&[row(LARGE_TOKENS + 1), row(3)]), Lane::Interactive);
    }
}
