//! Sends HTTP requests, and sends them again when the server asks for that.

use super::protocol::{ErrorAnswer, ErrorBody};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use ureq::http::{HeaderMap, StatusCode};

/// Largest answer, in bytes.
const MAX_ANSWER_BYTES: u64 = 1 << 30;
/// Times that a request is sent again.
const RETRIES: u32 = 5;
/// Longest time to wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Longest pause before a retry that a server can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Interval at which a waiting thread checks whether its request was cancelled.
const POLL: Duration = Duration::from_millis(50);

/// A failed call.
pub(super) enum Failure {
    /// The server answered with an error.
    Answered(StatusCode, ErrorBody),
    /// There is no answer, or it cannot be read.
    Other(Error),
}

/// An HTTP client for one server.
pub(super) struct Transport {
    /// Address of the server, without a trailing slash.
    pub address: String,
    agent: ureq::Agent,
    key: Option<String>,
}

impl Transport {
    /// A client of the server at `address` that sends `key` as a bearer token.
    pub fn new(address: String, key: Option<String>) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_global(Some(TIMEOUT))
            .build()
            .new_agent();
        Self { address, agent, key }
    }

    /// Returns the answer of `GET path`.
    pub fn get<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T> {
        let answer = self.send(path, None, &AtomicBool::new(false));
        answer.map_err(Error::from)
    }

    /// Returns the answer of `POST path`. A pause before a retry ends when `cancelled` becomes true.
    pub fn post<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        body: &impl Serialize,
        cancelled: &AtomicBool,
    ) -> std::result::Result<T, Failure> {
        let json = serde_json::to_vec(body).expect("strings and numbers are always JSON");
        self.send(path, Some(&json), cancelled)
    }

    fn send<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        body: Option<&[u8]>,
        cancelled: &AtomicBool,
    ) -> std::result::Result<T, Failure> {
        let no_answer = |error: &dyn std::fmt::Display| {
            Failure::Other(Error::Channel(format!(
                "{} does not answer: {error}. Check the address, and that a server is running there.",
                self.address
            )))
        };
        let url = format!("{}{path}", self.address);
        for attempt in 0.. {
            let answer = match body {
                Some(json) => self
                    .authorized(self.agent.post(&url))
                    .content_type("application/json")
                    .send(json),
                None => self.authorized(self.agent.get(&url)).call(),
            };
            let mut answer = answer.map_err(|error| no_answer(&error))?;
            let status = answer.status();
            let text = answer
                .body_mut()
                .with_config()
                .limit(MAX_ANSWER_BYTES)
                .read_to_vec()
                .map_err(|error| no_answer(&error))?;
            if status.is_success() {
                return serde_json::from_slice(&text).map_err(|error| {
                    Failure::Other(Error::Channel(format!(
                        "{url} does not answer as an embergem server: {error}. Check the address."
                    )))
                });
            }
            match retry_after(status, answer.headers()) {
                Some(pause) if attempt < RETRIES && sleep(pause, cancelled) => {}
                _ => return Err(self.failure(status, &text)),
            }
        }
        unreachable!("the last attempt returns")
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        }
    }

    fn failure(&self, status: StatusCode, text: &[u8]) -> Failure {
        match serde_json::from_slice::<ErrorAnswer>(text) {
            Ok(ErrorAnswer { error }) => Failure::Answered(status, error),
            Err(_) => Failure::Other(Error::Channel(format!(
                "{} answered {status} without an error message that can be read",
                self.address
            ))),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Answered(status, body) => {
                Self::from_server(status.as_u16(), body.code.as_deref().unwrap_or_default(), body.message)
            }
            Failure::Other(error) => error,
        }
    }
}

/// The pause that a server asks for before a retry, if it asks for one.
pub(super) fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let retried = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
    let seconds: f64 = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    let pause = Duration::try_from_secs_f64(seconds).ok()?;
    (retried && pause <= MAX_RETRY_AFTER).then_some(pause)
}

/// Waits. Returns false at once when `cancelled` becomes true.
fn sleep(pause: Duration, cancelled: &AtomicBool) -> bool {
    let end = Instant::now() + pause;
    while !cancelled.load(Ordering::Relaxed) {
        match end.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => thread::sleep(left.min(POLL)),
            _ => return true,
        }
    }
    false
}
