//! Probes of vectors.

use super::context::{Context, Observation};
use super::report::{Finding, PROBES, finding};
use embergem_checkpoint::Module;
use embergem_core::cosine;
use sha2::{Digest, Sha256};

/// No vector contains NaN or infinity.
pub(super) fn finite(observed: &Observation) -> Finding {
    if let Some(reason) = &observed.fault {
        return finding("finite", "failed", &[("reason", reason)]);
    }
    let mut values = observed.together.iter().chain(&observed.alone).flatten();
    if !values.all(|value| value.is_finite()) {
        return finding("finite", "not_finite", &[]);
    }
    finding("finite", "finite", &[("vectors", &observed.together.len())])
}

/// Vectors have length 1 if the head ends in normalisation, and no vector is all zeros.
pub(super) fn norms(context: &Context<'_>, observed: &Observation) -> Finding {
    let length = |vector: &Vec<f32>| vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let lengths: Vec<f64> = observed.together.iter().map(length).collect();
    let head = context.head.unwrap_or_default();
    if matches!(head.last(), Some(Module::Normalize {})) {
        let further = |a: f64, b: &f64| if (b - 1.0).abs() > (a - 1.0).abs() { *b } else { a };
        let worst = lengths.iter().fold(1.0, further);
        let difference = (worst - 1.0).abs();
        if difference > PROBES.norm_tolerance {
            return finding("norms", "not_one", &[("length", &format!("{worst:.4}"))]);
        }
        return finding("norms", "one", &[("difference", &format!("{difference:.7}"))]);
    }
    if lengths.contains(&0.0) {
        return finding("norms", "zero", &[]);
    }
    if let Some(base) = context.base.filter(|base| base.dense.is_some_and(|layers| layers > 0)) {
        let least = lengths.iter().copied().fold(f64::INFINITY, f64::min);
        let most = lengths.iter().copied().fold(0.0, f64::max);
        let (least, most) = (format!("{least:.4}"), format!("{most:.4}"));
        return finding(
            "norms",
            "not_normalised",
            &[("least", &least), ("most", &most), ("model", &base.id)],
        );
    }
    finding("norms", "any", &[])
}

/// The vector of a text has the same bits alone and in a batch.
pub(super) fn batch_invariance(observed: &Observation) -> Finding {
    let pairs = || observed.alone.iter().flatten().zip(observed.together.iter().flatten());
    if pairs().all(|(a, b)| a == b) {
        return finding("batch_invariance", "same", &[]);
    }
    let difference = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    finding(
        "batch_invariance",
        "different",
        &[("difference", &format!("{difference:.9}"))],
    )
}

/// Different texts have different vectors.
pub(super) fn distinct(observed: &Observation) -> Finding {
    let vectors = &observed.together;
    let pairs = (0..vectors.len()).flat_map(|a| (a + 1..vectors.len()).map(move |b| (a, b)));
    let highest = pairs
        .map(|(a, b)| cosine(&vectors[a], &vectors[b]))
        .fold(-1.0, f64::max);
    if highest > PROBES.equal_cosine {
        return finding("distinct", "equal", &[("cosine", &format!("{highest:.7}"))]);
    }
    finding("distinct", "distinct", &[("cosine", &format!("{highest:.4}"))])
}

/// Vectors have the same bits as those of the whole check, whose digest is `before`.
pub(super) fn same_bits(observed: &Observation, before: &str) -> Finding {
    let outcome = if digest(observed) == before {
        "same"
    } else {
        "different"
    };
    finding("same_bits", outcome, &[])
}

/// The sha256 of the vectors, in hex.
pub(super) fn digest(observed: &Observation) -> String {
    let mut hash = Sha256::new();
    for value in observed.together.iter().flatten() {
        hash.update(value.to_le_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Vectors in the chosen dtype are near those in float32.
pub(super) fn exactness(context: &Context<'_>) -> Finding {
    let (dtype, cosine) = (context.dtype, context.cosine);
    let outcome = match cosine {
        _ if dtype == "float32" => "float32",
        cosine if cosine < PROBES.broken_cosine => "broken",
        cosine if cosine < PROBES.exact_cosine => "inexact",
        _ => "exact",
    };
    finding(
        "exactness",
        outcome,
        &[("dtype", &dtype), ("cosine", &format!("{cosine:.6}"))],
    )
}
