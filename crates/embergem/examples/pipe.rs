//! Embeds texts for another program: it reads one request and writes one response a line, in JSON.
//!
//! `cargo run --release --package embergem --example pipe MODEL [DTYPE]` reads lines such as `{"texts": ["a", "b"], "task":
//! "query", "dimensions": 256}` or `{"ids": [[1, 2]]}` and answers each with `{"vectors": [[…]], "tokens": 6}` or
//! `{"error": "…"}`. MODEL is a directory, a name, or the address of a server. Numbers are written so that reading them
//! gives the same bits.

use embergem::{EmbeddingModel, EmbeddingModelBuilder, EmbeddingRequest, Embeddings, ModelDType, Result};
use serde::Deserialize;
use serde_json::json;
use std::env;
use std::io;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Line {
    texts: Vec<String>,
    titles: Vec<Option<String>>,
    ids: Vec<Vec<u32>>,
    task: Option<String>,
    dimensions: Option<usize>,
    truncate: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let name = env::args().nth(1).unwrap_or_else(|| "minilm".to_owned());
    let built = if name.starts_with("http") {
        EmbeddingModel::connect(name).await
    } else {
        let builder = EmbeddingModelBuilder::new(name);
        let dtype = match env::args().nth(2).as_deref() {
            None | Some("float32") => ModelDType::F32,
            Some("bfloat16") => ModelDType::BF16,
            Some("int16") => ModelDType::I16,
            Some("int8") => ModelDType::I8,
            Some(other) => {
                println!("{}", json!({"error": format!("no dtype is called {other:?}")}));
                return Ok(());
            }
        };
        builder.with_dtype(dtype).build().await
    };
    let model = match built {
        Ok(model) => model,
        Err(error) => {
            println!("{}", json!({"error": error.to_string()}));
            return Ok(());
        }
    };
    for line in io::stdin().lines().map_while(std::result::Result::ok) {
        let answer = match serde_json::from_str(&line) {
            Ok(line) => embed(&model, line).await,
            Err(error) => Ok(json!({"error": error.to_string()})),
        };
        println!("{}", answer.unwrap_or_else(|error| json!({"error": error.to_string()})));
    }
    Ok(())
}

async fn embed(model: &EmbeddingModel, line: Line) -> Result<serde_json::Value> {
    let mut request = EmbeddingRequest::builder()
        .with_truncate_sequence(line.truncate)
        .add_tokens_batch(line.ids);
    let titles = line.titles.into_iter().chain(std::iter::repeat(None));
    for (text, title) in line.texts.into_iter().zip(titles) {
        request = match title {
            Some(title) => request.add_document(title, text),
            None => request.add_prompt(text),
        };
    }
    if let Some(task) = line.task {
        request = request.with_task(task);
    }
    if let Some(dimensions) = line.dimensions {
        request = request.with_dimensions(dimensions);
    }
    let embeddings: Embeddings = model.embed(request).await?;
    let vectors: Vec<_> = embeddings.iter().collect();
    Ok(json!({"vectors": vectors, "tokens": embeddings.tokens(), "truncated": embeddings.truncated()}))
}
