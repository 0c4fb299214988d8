//! The probe of published similarities: a model card gives them, and the loaded weights must reproduce them.

use super::context::{Context, Vectors};
use super::report::{Finding, finding};
use super::texts::tokens;
use crate::error::Result;
use embergem_core::cosine;
use std::fmt::Display;

/// The model gives the similarities that were published for it, if it has the published weights.
pub(super) fn golden(context: &Context<'_>) -> Result<Finding> {
    let Some((entry, golden)) = context.entry.and_then(|entry| Some((entry, entry.golden.as_ref()?))) else {
        return Ok(finding("golden", "unpublished", &[]));
    };
    let queries = embed(context, &golden.queries, golden.query_task.as_deref())?;
    let documents = embed(context, &golden.documents, golden.document_task.as_deref())?;
    let pairs = queries.iter().zip(&golden.similarities).flat_map(|(query, published)| {
        let row = documents.iter().zip(published);
        row.map(move |(document, published)| (cosine(query, document) - published).abs())
    });
    let off = pairs.fold(0.0, f64::max);
    let outcome = if off <= golden.tolerance + sway(context.cosine) {
        "same"
    } else if context.hub_id.is_none() && !entry.has_weights(&context.files) {
        "renamed"
    } else {
        "different"
    };
    let difference = format!("{off:.4}");
    let values: [(&str, &dyn Display); 4] = [
        ("source", &golden.source),
        ("difference", &difference),
        ("model", &entry.id),
        ("name", &context.name),
    ];
    Ok(finding("golden", outcome, &values))
}

/// How far the cosine of two vectors can change when each vector turns by the angle arccos(`cosine`).
///
/// The angle between the vectors changes from a to b, by at most twice that angle. The cosine then changes by
/// 2 sin((a + b) / 2) sin(|a - b| / 2), which is at most 2 sin(arccos(`cosine`)).
fn sway(cosine: f64) -> f64 {
    2.0 * (1.0 - cosine * cosine).max(0.0).sqrt()
}

fn embed(context: &Context<'_>, texts: &[String], task: Option<&str>) -> Result<Vectors> {
    let rows = texts.iter().map(|text| tokens(context, text, task));
    (context.run)(&rows.collect::<Result<Vec<_>>>()?)
}

#[cfg(test)]
mod tests {
    use super::sway;

    #[test]
    fn exact_vectors_do_not_sway() {
        assert_eq!(sway(1.0), 0.0);
        assert!((sway(0.8) - 1.2).abs() < 1e-15);
    }
}
