//! Invalid programs, batches and files: each is refused with a reason before any kernel runs.

mod common;

use common::{MAX_TOKENS, TempFile, VOCABULARY, checkpoint, load, program, vectors};
use embergem_core::{Error, Model, Options, Pool, Precision, instruction_sets};
use serde_json::{Value, json};
use std::sync::atomic::AtomicBool;

const IDS: [u32; 10] = [1, 2, 3, 10, 0, 5, 5, 5, 9, 4];
const OFFSETS: [u32; 4] = [0, 1, 7, 10];

/// Loads the program with the value at the JSON pointer `path` replaced.
fn load_changed(file: &TempFile, path: &str, value: Value) -> Result<Model, Error> {
    let mut program = program();
    *program
        .pointer_mut(path)
        .unwrap_or_else(|| panic!("the program has no {path}")) = value;
    load(&program, &file.0, Options::default())
}

#[test]
fn every_operation_agrees_on_every_instruction_set() {
    let file = TempFile::new("every", &checkpoint());
    for precision in [Precision::Float32, Precision::Int16] {
        let vectors_of = |kernels| {
            let options = Options {
                kernels: Some(kernels),
                precision,
                ..Options::default()
            };
            vectors(&load(&program(), &file.0, options).unwrap(), &IDS, &OFFSETS).unwrap()
        };
        let expected = vectors_of("portable");
        assert_eq!(expected.len(), 3 * 12);
        for name in instruction_sets() {
            let tolerance = if precision == Precision::Float32 { 1e-5 } else { 1e-3 };
            let close = expected
                .iter()
                .zip(vectors_of(name))
                .all(|(a, b)| (a - b).abs() < tolerance);
            assert!(close, "{name}, {precision:?}: {:?}, not {expected:?}", vectors_of(name));
        }
    }
}

#[test]
fn programs_with_invalid_numbers_are_refused() {
    let file = TempFile::new("numbers", &checkpoint());
    let huge = [
        json!(u64::MAX),
        json!(1u64 << 63),
        json!((1u64 << 62) + 1),
        json!(1u64 << 32),
    ];
    let numbers = [
        "/buffers/0/width",
        "/buffers/3/width",
        "/steps/0/out/width",
        "/steps/2/out/column",
        "/steps/4/inputs/0/column",
        "/steps/5/inputs/2/width",
        "/steps/5/inputs/1/buffer",
        "/steps/1/parameters/group",
        "/steps/4/parameters/head_dim",
        "/steps/4/parameters/dim",
        "/steps/5/parameters/heads",
        "/steps/5/parameters/kv_heads",
        "/steps/5/parameters/head_dim",
        "/steps/0/weights/table",
        "/weights/0/sources/0/shape/0",
        "/weights/5/sources/0/shape/1",
        "/output/column",
        "/output/width",
        "/output/buffer",
    ];
    for path in numbers {
        for value in huge
            .iter()
            .cloned()
            .chain([json!(0), json!(-1), json!(1.5), json!(null)])
        {
            // Some paths have a valid zero.
            if program().pointer(path) == Some(&value) {
                continue;
            }
            let refused = load_changed(&file, path, value.clone()).err();
            assert!(
                matches!(
                    refused,
                    Some(Error::Program(_) | Error::Tensor { .. } | Error::Memory { .. })
                ),
                "{path} = {value}: {refused:?}"
            );
        }
    }
}

#[test]
fn the_reason_of_a_refusal_is_named() {
    let file = TempFile::new("reasons", &checkpoint());
    for (path, value, reason) in [
        ("/format", json!("embergem-program/9"), "its format is"),
        ("/steps/0/op", json!("exec"), "no operation is called"),
        ("/steps", json!([]), "never written"),
        ("/buffers/1/width", json!(11), "does not lie inside"),
        ("/buffers/0/width", json!(1 << 21), "a buffer of width"),
        ("/buffers/0/axis", json!("rows"), "one row for each token"),
        ("/steps/13/inputs/0/buffer", json!(3), "reads"),
        (
            "/steps/8/out",
            json!({"buffer": 1, "column": 0, "width": 12}),
            "overlaps",
        ),
        ("/steps/4/out/column", json!(13), "overlaps"),
        (
            "/steps/14",
            json!({
                "op": "rope",
                "out": {"buffer": 3, "column": 1, "width": 12},
                "inputs": [{"buffer": 3, "column": 1, "width": 12}],
                "weights": {},
                "parameters": {"head_dim": 6, "theta": 100.0, "dim": 6},
            }),
            "only tokens have positions",
        ),
        (
            "/steps/5/out",
            json!({"buffer": 1, "column": 6, "width": 12}),
            "overlaps",
        ),
        ("/steps/5/parameters/kv_heads", json!(3), "does not fit"),
        ("/steps/5/parameters/scale", json!(-1.0), "does not fit"),
        ("/steps/4/parameters/dim", json!(4), "does not fit"),
        ("/steps/1/weights/other", json!(0), "in the role"),
        ("/steps/9/inputs", json!([]), "it has 0 inputs, not 2"),
        ("/steps/6/parameters/residual", json!("beside"), "a residual"),
        ("/weights/2/sources", json!([]), "without a source"),
        ("/weights/3/sources/0/rows", json!([3, 2]), "rows 3..2"),
        ("/weights/3/sources/0/rows", json!([0, 13]), "rows 0..13"),
        ("/weights/7/sources/0/tensor", json!("gate"), "its shape is"),
        ("/weights/0/add", json!(1.0), "cannot have a constant added"),
        (
            "/steps/0/parameters",
            json!({"offset": 0, "padding": 1}),
            "a padding id needs a row",
        ),
        (
            "/steps/0/parameters",
            json!({"offset": 2, "integers": true}),
            "should contain whole numbers",
        ),
        (
            "/steps/4/parameters",
            json!({"head_dim": 6, "theta": 100.0, "dim": 6, "linear": 0.0}),
            "does not fit",
        ),
        (
            "/steps/4/parameters",
            json!({"head_dim": 6, "theta": 100.0, "dim": 6, "linear": 2.0, "llama3": {"factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64.0}}),
            "scaled in two ways",
        ),
        // These columns contain values of an earlier batch at most.
        ("/steps/7/inputs/0", json!({"buffer": 2, "column": 0, "width": 12}), ""),
        ("/steps/0/out/buffer", json!(2), "never written"),
        ("/output/column", json!(0), "never written"),
    ] {
        // A JSON pointer can only replace a value that exists, and this role does not.
        let mut program = program();
        match program.pointer_mut(path) {
            Some(slot) => *slot = value.clone(),
            None => program["steps"][1]["weights"]["other"] = value.clone(),
        }
        match load(&program, &file.0, Options::default()) {
            Ok(_) => assert!(reason.is_empty(), "{path} = {value} was accepted"),
            Err(error) => assert!(
                !reason.is_empty() && error.to_string().contains(reason),
                "{path} = {value}: {error}"
            ),
        }
    }
}

#[test]
fn a_padding_token_has_the_row_before_the_first_position() {
    let file = TempFile::new("padding", &checkpoint());
    let mut program = program();
    program["steps"][0]["parameters"]["padding"] = json!(5);
    let model = load(&program, &file.0, Options::default()).unwrap();
    let counted = load_changed(&file, "/steps/0/parameters/offset", json!(2)).unwrap();
    let same = |ids: &[u32], offsets: &[u32]| {
        vectors(&model, ids, offsets).unwrap() == vectors(&counted, ids, offsets).unwrap()
    };
    assert!(same(&[1, 2, 3, 4], &[0, 1, 4]), "no padding token");
    assert!(!same(&[1, 5, 3, 4], &[0, 1, 4]), "a padding token");
    assert_eq!(model.max_tokens, Some(MAX_TOKENS));
}

#[test]
fn invalid_batches_are_refused() {
    let file = TempFile::new("batches", &checkpoint());
    let model = load(&program(), &file.0, Options::default()).unwrap();
    assert_eq!(model.vocabulary, VOCABULARY);
    assert_eq!(model.max_tokens, Some(MAX_TOKENS));
    let long = [1; MAX_TOKENS + 1];
    let cases: [(&[u32], &[u32]); 12] = [
        (&[], &[]),
        (&[], &[0]),
        (&[], &[0, 0]),
        (&[1], &[1]),
        (&[1], &[1, 1]),
        (&[1], &[0, 2]),
        (&[1, 2], &[0, 1]),
        (&[1, 2], &[0, 2, 1, 2]),
        (&[1, 2], &[0, u32::MAX, 2]),
        (&[1, 2], &[0, 1, 1, 2]),
        (&[1, VOCABULARY as u32], &[0, 2]),
        (&long, &[0, MAX_TOKENS as u32 + 1]),
    ];
    for (ids, offsets) in cases {
        let refused = model.start(ids, offsets).err();
        assert!(
            matches!(refused, Some(Error::Batch(_))),
            "{ids:?}, {offsets:?}: {refused:?}"
        );
    }
    assert_eq!(
        vectors(&model, &long[..MAX_TOKENS], &[0, MAX_TOKENS as u32])
            .unwrap()
            .len(),
        12
    );
}

#[test]
fn a_stopped_run_has_no_vectors() {
    let file = TempFile::new("stopped", &checkpoint());
    let model = load(&program(), &file.0, Options::default()).unwrap();
    vectors(&model, &IDS, &OFFSETS).unwrap();
    // The run reuses the buffers of the earlier batch, which contain vectors.
    let mut run = model.start(&IDS, &OFFSETS).unwrap();
    run.advance(Pool::global(), &AtomicBool::new(true));
    assert!(matches!(run.vectors(), Err(Error::Cancelled)));
}

#[test]
fn a_vector_that_is_not_finite_fails_the_batch() {
    let file = TempFile::new("finite", &checkpoint());
    for by in [json!(1e38), json!(-1e38)] {
        // The second scaling overflows.
        let mut program = program();
        program["steps"][12]["parameters"]["by"] = by.clone();
        let again = program["steps"][12].clone();
        program["steps"].as_array_mut().unwrap().insert(13, again);
        let model = load(&program, &file.0, Options::default()).unwrap();
        let refused = vectors(&model, &IDS, &OFFSETS);
        assert!(matches!(refused, Err(Error::NonFinite { row: 0 })), "{by}: {refused:?}");
    }
}

#[test]
fn damaged_files_are_refused() {
    let whole = checkpoint();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let with = |at: usize, bytes: &[u8]| {
        let mut file = whole.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let cases: [(&str, Vec<u8>); 8] = [
        ("empty", vec![]),
        ("short", whole[..7].to_vec()),
        ("no-header", whole[..8].to_vec()),
        ("cut-header", whole[..header - 1].to_vec()),
        ("cut-data", whole[..whole.len() - 1].to_vec()),
        ("long-header", with(0, &u64::MAX.to_le_bytes())),
        ("not-json", with(8, b"[")),
        ("nan", with(header, &f32::NAN.to_le_bytes())),
    ];
    for (name, bytes) in cases {
        let file = TempFile::new(name, &bytes);
        let refused = load(&program(), &file.0, Options::default()).err();
        assert!(
            matches!(refused, Some(Error::Corrupt { .. } | Error::Tensor { .. })),
            "{name}: {refused:?}"
        );
    }
}

/// Collects the JSON pointers of all values of a program.
fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| pointers(value, format!("{at}/{key}"), found)),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(i, value)| pointers(value, format!("{at}/{i}"), found)),
        _ => {}
    }
    if !at.is_empty() {
        found.push(at);
    }
}

#[test]
fn programs_changed_at_random_are_refused_or_run() {
    let file = TempFile::new("random", &checkpoint());
    let original = program();
    let mut all = Vec::new();
    pointers(&original, String::new(), &mut all);
    let mut state = 1u64;
    let mut below = |end: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    };
    let (mut refused, mut run) = (0, 0);
    for _ in 0..4_000 {
        let mut program = original.clone();
        for _ in 0..=below(4) / 3 {
            let path = &all[below(all.len())];
            let value = match below(12) {
                0 => json!(1u64 << below(64)),
                1 => json!(u64::MAX),
                2 => json!(null),
                3 => json!([]),
                4 => json!(-1.5),
                5..8 => json!(below(30)),
                // A value with the same name elsewhere in the program has the right type.
                _ => {
                    let name = path.rsplit('/').next().unwrap_or_default();
                    let same_name: Vec<&String> = all.iter().filter(|other| other.ends_with(name)).collect();
                    original.pointer(same_name[below(same_name.len())]).unwrap().clone()
                }
            };
            if let Some(slot) = program.pointer_mut(path) {
                *slot = value;
            }
        }
        let options = Options {
            precision: if below(2) == 0 {
                Precision::Float32
            } else {
                Precision::Int16
            },
            ..Options::default()
        };
        match load(&program, &file.0, options) {
            Err(_) => refused += 1,
            Ok(model) => {
                run += 1;
                if let Ok(vectors) = vectors(&model, &IDS, &OFFSETS) {
                    assert!(vectors.iter().all(|value| value.is_finite()));
                }
            }
        }
    }
    assert!(
        refused > 1_000 && run > 100,
        "{refused} refused, {run} run: the changes must produce both"
    );
}
