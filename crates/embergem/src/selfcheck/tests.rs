//! Each probe finds the fault that it is for. tests/selfcheck/test_faults.py breaks whole models.

use super::*;
use crate::catalog::{Entry, Golden};
use crate::engine::{context, load_model, load_text, run_rows};
use crate::options::LoadOptions;
use crate::prepare::Prepared;
use crate::resolve::Location;
use context::Vectors;
use report::Status;
use std::path::PathBuf;

/// A directory for memos that is removed with its owner.
struct Memos(PathBuf);

impl Memos {
    fn new(test: &str) -> Self {
        Self(std::env::temp_dir().join(format!("embergem-selfcheck-{}-{test}", std::process::id())))
    }
}

impl Drop for Memos {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the self-check of the tiny EmbeddingGemma with a context that `change` may break, and with vectors that `spoil`
/// may break.
fn check_with(memos: &Memos, change: impl FnOnce(&mut Context<'_>), spoil: impl Fn(Vectors) -> Vectors) -> Report {
    let location = Location {
        id: "fine-tune".to_owned(),
        path: concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/goldens/gemma3_text").into(),
    };
    let options = LoadOptions::default();
    let prepared = Prepared::read(&location, &options).unwrap();
    let cache = Cache::at(Some(memos.0.clone()), 0);
    let text = load_text(&prepared, &cache).unwrap();
    let (model, cosine) = load_model(&prepared, &cache, &options).unwrap();
    let run = |rows: &[Vec<u32>]| Ok(spoil(run_rows(&model, rows)?));
    let mut context = context(&prepared, &location, &model, &text, cosine, &run);
    change(&mut context);
    check(&context, &cache).unwrap()
}

fn statuses(report: &Report, wanted: Status) -> Vec<&str> {
    let found = report.findings.iter().filter(|finding| finding.status == wanted);
    found.map(|finding| finding.name).collect()
}

fn failures(report: &Report) -> Vec<&str> {
    statuses(report, Status::Error)
}

fn warnings(report: &Report) -> Vec<&str> {
    statuses(report, Status::Warn)
}

#[test]
fn a_sound_model_passes_and_is_checked_whole_once() {
    let memos = Memos::new("sound");
    let first = check_with(&memos, |_| {}, |vectors| vectors);
    let second = check_with(&memos, |_| {}, |vectors| vectors);
    for report in [&first, &second] {
        assert!(failures(report).is_empty() && warnings(report).is_empty(), "{report:?}");
    }
    assert!(first.whole && !second.whole);
    assert!(second.findings.iter().any(|finding| finding.name == "same_bits"));
}

#[test]
fn vectors_that_differ_from_the_stored_digest_fail_same_bits() {
    let memos = Memos::new("bits");
    check_with(&memos, |_| {}, |vectors| vectors);
    let turned = |mut vectors: Vectors| {
        vectors.iter_mut().for_each(|vector| vector.reverse());
        vectors
    };
    assert_eq!(failures(&check_with(&memos, |_| {}, turned)), ["same_bits"]);
}

#[test]
fn faulty_vectors_fail_their_probes() {
    let memos = Memos::new("vectors");
    let fails = |spoil: fn(Vectors) -> Vectors| {
        let report = check_with(&memos, |_| {}, spoil);
        failures(&report).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(fails(|vectors| vectors.iter().map(|v| vec![0.0; v.len()]).collect()).contains(&"norms".to_owned()));
    assert_eq!(
        fails(|vectors| vec![[vec![1.0], vec![0.0; 95]].concat(); vectors.len()]),
        ["distinct"]
    );
    let leaky = |mut vectors: Vectors| {
        let rows = vectors.len() as f32;
        vectors[0][0] += if rows > 1.0 { 1e-6 } else { 0.0 };
        vectors
    };
    assert_eq!(fails(leaky), ["batch_invariance"]);
    let infinite = |mut vectors: Vectors| {
        vectors[0][0] = f32::INFINITY;
        vectors
    };
    assert_eq!(fails(infinite), ["finite"]);
}

#[test]
fn the_catalog_is_compared_with_the_files() {
    let memos = Memos::new("catalog");
    let base: &Entry = Box::leak(Box::new(Entry {
        id: "example/gemma".to_owned(),
        family: "gemma3_text".to_owned(),
        limit: 64,
        dense: Some(2),
        window: Some(32),
        prompts: Some("nomic".to_owned()),
        config: serde_json::from_str(r#"{"radius": 16, "theta_full": 1000000}"#).unwrap(),
        ..Entry::default()
    }));
    let report = check_with(&memos, |context| context.base = Some(base), |vectors| vectors);
    assert_eq!(warnings(&report), ["config", "limit", "prompts"]);
    let text = report.warnings().map(Finding::to_string).collect::<Vec<_>>().join("\n");
    assert!(
        text.contains("reaches 8 tokens on each side, and that of example/gemma reaches 16"),
        "{text}"
    );
    assert!(text.contains("--window 32"), "{text}");

    let other: &Entry = Box::leak(Box::new(Entry {
        config: serde_json::from_str(r#"{"theta_full": 10000}"#).unwrap(),
        opening: Some(7),
        dense: Some(3),
        ..Entry::default()
    }));
    let report = check_with(&memos, |context| context.base = Some(other), |vectors| vectors);
    assert_eq!(failures(&report), ["dense_layers", "special_tokens"]);
    let text = report
        .findings
        .iter()
        .map(Finding::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    assert!(text.contains("theta_full is 1000000.0 instead of 10000"), "{text}");
    assert!(
        text.contains("begins with token 2 instead of the special token 7"),
        "{text}"
    );
}

#[test]
fn a_dtype_far_from_float32_fails_exactness() {
    let memos = Memos::new("exactness");
    for (cosine, failing, warning) in [(0.9, true, false), (0.999, false, true), (0.99995, false, false)] {
        let change = |context: &mut Context<'_>| {
            context.dtype = "int8";
            context.cosine = cosine;
            context.variant.push(cosine.to_string());
        };
        let report = check_with(&memos, change, |vectors| vectors);
        assert_eq!(failures(&report).contains(&"exactness"), failing, "{cosine}");
        assert_eq!(warnings(&report).contains(&"exactness"), warning, "{cosine}");
    }
}

#[test]
fn other_similarities_than_the_published_ones_fail_for_files_of_the_hub() {
    let memos = Memos::new("golden");
    let entry = |similarity: f64| -> &Entry {
        Box::leak(Box::new(Entry {
            id: "example/gemma".to_owned(),
            dimensions: 96,
            golden: Some(Golden {
                queries: vec!["What is graphene?".to_owned()],
                documents: vec!["What is graphene?".to_owned()],
                similarities: vec![vec![similarity]],
                tolerance: 1e-4,
                source: "this test".to_owned(),
                query_task: None,
                document_task: None,
            }),
            ..Entry::default()
        }))
    };
    let (right, wrong) = (entry(1.0), entry(0.5));
    let report = |entry, hub_id| {
        let change = |context: &mut Context<'_>| {
            context.entry = Some(entry);
            context.hub_id = hub_id;
            context.variant.push(format!("{hub_id:?}")); // so that each check is whole
        };
        check_with(&memos, change, |vectors| vectors)
    };
    assert!(failures(&report(right, Some("example/gemma"))).is_empty());
    assert_eq!(failures(&report(wrong, Some("example/other"))), ["golden"]);
    assert_eq!(warnings(&report(wrong, None)), ["golden"]);
}
