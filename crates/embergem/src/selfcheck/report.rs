//! The report of a self-check: findings, made from the texts and bounds in probes.json.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::LazyLock;

/// Texts, bounds and outcomes of the probes. Python's `embergem.selfcheck.report.Probes` documents the fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probes {
    pub short_texts: Vec<String>,
    pub whole_texts: Vec<String>,
    pub special_token_texts: Vec<String>,
    pub prompted_text: String,
    pub repeated_text: String,
    pub default_reach: usize,
    pub tokens_past_window: usize,
    pub norm_tolerance: f64,
    pub equal_cosine: f64,
    pub exact_cosine: f64,
    pub broken_cosine: f64,
    outcomes: BTreeMap<String, BTreeMap<String, Outcome>>,
}

pub(crate) static PROBES: LazyLock<Probes> = LazyLock::new(|| {
    let text = include_str!("../../../../src/embergem/selfcheck/probes.json");
    serde_json::from_str(text).expect("every test of the self-check parses this file")
});

/// What a probe can find: status, message, and suggestion if there is one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Outcome {
    Plain(Status, String),
    Suggesting(Status, String, String),
}

/// How severe a finding is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// No fault was found.
    Ok,
    /// A person should look at it.
    Warn,
    /// The model must not answer.
    Error,
}

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Name of the probe.
    pub name: &'static str,
    /// How severe it is.
    pub status: Status,
    message: String,
    suggestion: Option<String>,
}

impl Finding {
    /// Whether the model must not answer.
    pub fn is_error(&self) -> bool {
        self.status == Status::Error
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, ". {suggestion}"),
            None => Ok(()),
        }
    }
}

/// The finding of a probe with one of the outcomes in probes.json; `values` fill the places in its text.
///
/// # Panics
/// If probes.json has no such outcome.
pub(crate) fn finding(probe: &'static str, outcome: &str, values: &[(&str, &dyn Display)]) -> Finding {
    let fill = |text: &String| {
        let replace = |text: String, (name, value): &(&str, &dyn Display)| {
            text.replace(&format!("{{{name}}}"), &value.to_string())
        };
        values.iter().fold(text.clone(), replace)
    };
    let (status, message, suggestion) = match &PROBES.outcomes[probe][outcome] {
        Outcome::Plain(status, message) => (status, message, None),
        Outcome::Suggesting(status, message, suggestion) => (status, message, Some(suggestion)),
    };
    Finding {
        name: probe,
        status: *status,
        message: fill(message),
        suggestion: suggestion.map(fill),
    }
}

/// All findings about a model.
#[derive(Debug)]
pub(crate) struct Report {
    /// In the order of the probes.
    pub findings: Vec<Finding>,
    /// Whether every probe ran, not only those of the short check.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests tell the two checks apart"))]
    pub whole: bool,
}

impl Report {
    /// Findings with which the model must not answer.
    pub fn failures(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.is_error())
    }

    /// Findings that a person should look at.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.status == Status::Warn)
    }
}
