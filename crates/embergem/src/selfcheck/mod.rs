//! The self-check: probes that a model must pass before it answers requests.
//!
//! The Python package (`src/embergem/selfcheck`) runs the same probes on the same texts, which both read from
//! probes.json. A check that passed is stored for the state of the files, the build, the instruction set and the dtype;
//! both languages read and write the same memos, so the next load by either runs the short check only.

mod context;
mod published;
mod report;
mod settings;
mod texts;
mod vectors;

pub(crate) use context::{Context, Run};
pub(crate) use settings::{missing_dense_layers, not_ready};

use crate::cache::Cache;
use crate::error::Result;
use context::{Observation, observe};
use log::debug;
use report::{Finding, PROBES, Report};
use serde_json::{Value, json};
use texts::tokens;

/// Checks a model. A check that passed is stored; a model that failed is checked whole again at each load.
///
/// # Errors
/// Those of the tokenizer and of a run, except a vector that is not finite: that is a finding.
pub(crate) fn check(context: &Context<'_>, cache: &Cache) -> Result<Report> {
    let mut variant = vec![env!("CARGO_PKG_VERSION"), embergem_core::BUILD, embergem_text::BUILD];
    variant.extend(context.variant.iter().map(String::as_str));
    let memo = cache.memo("selfcheck", context.files.iter().copied(), &variant);
    let before = memo.as_ref().and_then(|memo| digest(&memo.read()?));
    let mut findings = vec![
        settings::config(context),
        settings::dense_layers(context),
        texts::limit(context),
        texts::special_tokens(context)?,
        texts::prompts(context)?,
        vectors::exactness(context),
    ];
    let observed = observe(context, distinct_rows(context, &PROBES.short_texts)?, 1)?;
    let whole = before.is_none();
    match before {
        None => {
            debug!("{}: the whole self-check runs", context.name);
            findings.extend(probe_vectors(context, &observe(context, whole_rows(context)?, 2)?));
            if observed.fault.is_none() {
                findings.push(texts::truncation(context)?);
                findings.push(published::golden(context)?);
            }
        }
        Some(before) => {
            findings.extend(probe_vectors(context, &observed));
            if observed.fault.is_none() {
                findings.push(vectors::same_bits(&observed, &before));
            }
        }
    }
    let report = Report { findings, whole };
    if let Some(memo) = memo
        && whole
        && report.failures().next().is_none()
    {
        memo.write(&json!({"vectors": vectors::digest(&observed)}).to_string());
    }
    Ok(report)
}

/// The rows of the whole check: one that is longer than the window, then rows of many kinds of text.
fn whole_rows(context: &Context<'_>) -> Result<Vec<Vec<u32>>> {
    let mut rows = distinct_rows(context, &PROBES.whole_texts)?;
    let reach = context.config.and_then(|config| config.get("radius")?.as_u64());
    let reach = reach
        .filter(|reach| *reach > 0)
        .map_or(PROBES.default_reach, |reach| reach as usize);
    let length = context.limit.min(reach + PROBES.tokens_past_window);
    let inner = |row: &Vec<u32>| row[1.min(row.len())..row.len().saturating_sub(1).max(1)].to_vec();
    let body: Vec<u32> = rows.iter().flat_map(inner).collect();
    if let Some([first, .., last] | [first @ last]) = rows.last().map(Vec::as_slice) {
        let mut long = vec![*first];
        long.extend(body.iter().cycle().take(length.saturating_sub(2).max(1)));
        long.push(*last);
        rows.insert(0, long);
    }
    Ok(rows)
}

/// The different rows of ids that `texts` have, without empty rows. Two texts may have the same ids in a small
/// vocabulary.
fn distinct_rows(context: &Context<'_>, texts: &[String]) -> Result<Vec<Vec<u32>>> {
    let mut rows: Vec<Vec<u32>> = Vec::new();
    for text in texts {
        let row = tokens(context, text, None)?;
        if !row.is_empty() && !rows.contains(&row) {
            rows.push(row);
        }
    }
    Ok(rows)
}

fn probe_vectors(context: &Context<'_>, observed: &Observation) -> Vec<Finding> {
    let first = vectors::finite(observed);
    if first.is_error() {
        return vec![first];
    }
    vec![
        first,
        vectors::norms(context, observed),
        vectors::batch_invariance(observed),
        vectors::distinct(observed),
    ]
}

/// The digest of the vectors in the memo of a check that passed; none if the memo is damaged.
fn digest(memo: &str) -> Option<String> {
    let memo: Value = serde_json::from_str(memo).ok()?;
    memo["vectors"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests;
