//! Runs blocking work for async callers, on a thread of its own.

use crate::error::{Error, Result};
use futures_channel::oneshot;
use std::thread;

/// Runs `work` on a new thread called `embergem {name}`. The future gives the result; it needs no particular runtime.
///
/// The thread starts when the future is first polled. If the future is dropped, the thread still finishes its work.
pub(crate) async fn run_blocking<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = oneshot::channel();
    spawn(name, move || drop(sender.send(work())))?;
    receiver.await.unwrap_or(Err(Error::Closed))
}

/// Starts a thread called `embergem {name}`.
///
/// # Errors
/// [`Error::Management`] if the system has no more threads.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    match thread::Builder::new().name(format!("embergem {name}")).spawn(work) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Management(format!("cannot start the thread {name:?}: {error}"))),
    }
}
