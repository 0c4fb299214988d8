//! Work that would block an async executor, on a thread of its own.

use crate::error::{Error, Result};
use futures_channel::oneshot;
use std::thread;

/// Runs `work` on a new thread; the future gives its result and needs no particular runtime.
///
/// The thread starts when the future is first polled. A future that is dropped leaves the thread to finish by itself.
pub(crate) async fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = oneshot::channel();
    thread::Builder::new()
        .name(format!("embergem {name}"))
        .spawn(move || drop(sender.send(work())))
        .map_err(|error| Error::Management(format!("no thread could be started: {error}")))?;
    receiver.await.unwrap_or(Err(Error::Closed))
}
