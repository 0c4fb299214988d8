//! Runs the cases of tests/data/sdk_cases.json, which the Python SDK runs too. tests/rust/test_sdk_cases.py documents the
//! file and compares the bits and the error messages of the two SDKs: the variable `EMBERGEM_CASE_RESULTS` names the file
//! that this test then writes.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::options::{EmbeddingLoaderType, LoadOptions, ModelDType};
use crate::request::EmbeddingRequest;
use crate::resolve::Location;
use crate::worker::Worker;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    checkpoint: String,
    #[serde(default)]
    edits: Vec<Edit>,
    #[serde(default)]
    options: Options,
    #[serde(default)]
    texts: Option<Vec<Text>>,
    #[serde(default)]
    titles: Vec<Option<String>>,
    #[serde(default)]
    ids: Vec<Vec<u32>>,
    task: Option<String>,
    dimensions: Option<usize>,
    #[serde(default)]
    truncate: bool,
    only: Option<String>,
    /// The two SDKs word the error differently.
    #[serde(default, rename = "own_words")]
    _own_words: bool,
    expect: Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Repeated { repeat: String, times: usize },
    Utf16 { utf16: Vec<u16> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: String,
    #[serde(default)]
    remove: bool,
    text: Option<String>,
    set: Option<Map<String, Value>>,
    replace: Option<(String, String)>,
    keep_bytes: Option<usize>,
    rename: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    dtype: Option<String>,
    threads: Option<usize>,
    max_batch_rows: Option<usize>,
    tokenizer: Option<String>,
    arch: Option<String>,
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/goldens")
}

impl Edit {
    fn apply(&self, directory: &Path) {
        let file = directory.join(&self.file);
        if self.remove {
            fs::remove_file(&file).unwrap();
        }
        if let Some(text) = &self.text {
            fs::write(&file, text).unwrap();
        }
        if let Some(fields) = &self.set {
            let stored = fs::read(&file).unwrap_or_else(|_| b"{}".to_vec());
            let mut content: Map<String, Value> = serde_json::from_slice(&stored).unwrap();
            content.extend(fields.clone());
            fs::write(&file, serde_json::to_string(&content).unwrap()).unwrap();
        }
        if let Some((old, new)) = &self.replace {
            let content = fs::read(&file).unwrap();
            let mut places = content.windows(old.len()).enumerate();
            let (place, _) = places.find(|(_, window)| *window == old.as_bytes()).unwrap();
            let edited = [&content[..place], new.as_bytes(), &content[place + old.len()..]].concat();
            fs::write(&file, edited).unwrap();
        }
        if let Some(name) = &self.rename {
            fs::rename(&file, directory.join(name)).unwrap();
        }
        if let Some(size) = self.keep_bytes {
            let content = fs::read(&file).unwrap();
            fs::write(&file, &content[..size]).unwrap();
        }
    }
}

impl Text {
    fn read(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Repeated { repeat, times } => repeat.repeat(*times),
            Self::Utf16 { utf16 } => String::from_utf16(utf16).expect("only Python can express other texts"),
        }
    }
}

impl Case {
    /// The directory of the checkpoint: the golden, or an edited copy in `scratch`.
    fn directory(&self, scratch: &Path) -> PathBuf {
        let golden = goldens().join(&self.checkpoint);
        if self.edits.is_empty() {
            return golden;
        }
        copy(&golden, scratch);
        self.edits.iter().for_each(|edit| edit.apply(scratch));
        scratch.to_owned()
    }

    fn options(&self) -> LoadOptions {
        let options = &self.options;
        LoadOptions {
            dtype: match options.dtype.as_deref() {
                None => ModelDType::Auto,
                Some("bfloat16") => ModelDType::BF16,
                Some("int16") => ModelDType::I16,
                Some("int8") => ModelDType::I8,
                Some(other) => panic!("{other} is not in the table of this test"),
            },
            threads: options.threads,
            max_num_seqs: options.max_batch_rows,
            tokenizer_json: options.tokenizer.as_ref().map(|path| goldens().join(path)),
            loader_type: options.arch.as_ref().map(|_| EmbeddingLoaderType::EmbeddingGemma),
            ..LoadOptions::default()
        }
    }

    fn request(&self) -> Result<EmbeddingRequest> {
        let mut request = EmbeddingRequest::builder().with_truncate_sequence(self.truncate);
        let titles = self.titles.iter().map(Option::as_deref).chain(std::iter::repeat(None));
        for (text, title) in self.texts.iter().flatten().zip(titles) {
            request = match title {
                Some(title) => request.add_document(title, text.read()),
                None => request.add_prompt(text.read()),
            };
        }
        request = request.add_tokens_batch(self.ids.clone());
        if let Some(task) = &self.task {
            request = request.with_task(task);
        }
        if let Some(dimensions) = self.dimensions {
            request = request.with_dimensions(dimensions);
        }
        request.build()
    }

    /// Compares what Rust gives with `expect`; returns the bits of the vectors, or the message of the error.
    fn check(&self, worker: &Result<Arc<Worker>>) -> Value {
        match self.run(worker) {
            Err((code, message)) => {
                assert_eq!(self.expect, json!({"error": code}), "{}: {message}", self.name);
                Value::from(message)
            }
            Ok((mut found, vectors, dimensions)) => {
                let mut expect = self.expect.clone();
                let shown = expect.as_object_mut().and_then(|expect| expect.remove("vectors"));
                assert_eq!(found.take(), expect, "{}", self.name);
                let tolerance = match self.options.dtype.as_deref() {
                    // Only some machines round rows to bfloat16.
                    Some("bfloat16" | "int16") => 1e-3,
                    Some("int8") => 3e-2,
                    _ => 2e-5,
                };
                let shown: Vec<Vec<f32>> = serde_json::from_value(shown.unwrap()).unwrap();
                assert_eq!(shown.len() * dimensions, vectors.len(), "{}", self.name);
                for (row, (vector, shown)) in vectors.chunks_exact(dimensions).zip(&shown).enumerate() {
                    let near = vector.iter().zip(shown).all(|(a, b)| (a - b).abs() <= tolerance);
                    assert!(
                        near,
                        "{}: vector {row} begins with {:?}",
                        self.name,
                        &vector[..shown.len()]
                    );
                }
                vectors.iter().map(|value| value.to_bits()).collect()
            }
        }
    }

    fn run(&self, worker: &Result<Arc<Worker>>) -> std::result::Result<(Value, Vec<f32>, usize), (String, String)> {
        let described = |error: &Error| (error.code().to_owned(), error.to_string());
        let worker = worker.as_ref().map_err(described)?;
        let request = self.request().map_err(|error| described(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let embeddings = runtime
            .block_on(worker.embed(request.clone()))
            .map_err(|error| described(&error))?;
        let info = &worker.engine().info;
        let rows = worker.engine().prepare(&request).map_err(|error| described(&error))?;
        let ids: Vec<&[u32]> = rows.iter().map(|row| row.ids.as_slice()).collect();
        let found = json!({
            "limit": info.max_sequence_length,
            "tasks": info.tasks,
            "allowed_dimensions": info.allowed_dimensions.iter().take(4).collect::<Vec<_>>(),
            "ids": ids,
            "truncated": embeddings.truncated(),
        });
        let dimensions = embeddings.dimensions();
        Ok((found, embeddings.into_flat(), dimensions))
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(std::result::Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn every_case_gives_what_the_file_says() {
    let text = fs::read_to_string(goldens().join("../sdk_cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    let scratch = env::temp_dir().join(format!("embergem-cases-{}", std::process::id()));
    let mut results = Map::new();
    let mut workers = HashMap::new();
    for (number, value) in cases.into_iter().enumerate() {
        let loads = json!([value["checkpoint"], value["edits"], value["options"]]).to_string();
        let case: Case = serde_json::from_value(value).unwrap();
        if case.only.as_deref() == Some("python") {
            continue;
        }
        let directory = case.directory(&scratch.join(number.to_string()));
        let worker = workers
            .entry(loads)
            .or_insert_with(|| load(&directory, &case.options()));
        let mut result = case.check(worker);
        if let Value::String(message) = &mut result {
            *message = message.replace(&directory.display().to_string(), "MODEL");
        }
        results.insert(case.name, result);
    }
    drop(workers);
    let _ = fs::remove_dir_all(scratch);
    assert!(results.len() >= 60);
    if let Some(path) = env::var_os("EMBERGEM_CASE_RESULTS") {
        fs::write(path, serde_json::to_string(&results).unwrap()).unwrap();
    }
}

fn load(directory: &Path, options: &LoadOptions) -> Result<Arc<Worker>> {
    options.check()?;
    let location = Location {
        id: "model".to_owned(),
        path: directory.to_owned(),
    };
    let engine = Engine::load(&location.id, &location, options)?;
    Ok(Arc::new(Worker::start(engine, options)?))
}
