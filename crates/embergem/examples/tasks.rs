//! Embeds with prompts by name, titles, and smaller vectors: `cargo run --release --package embergem --example tasks
//! [MODEL]`.
//!
//! The model must have prompts, such as google/embeddinggemma-300m.

use embergem::{EmbeddingModelBuilder, EmbeddingRequest, Result, Task};
use std::env;

#[tokio::main]
async fn main() -> Result<()> {
    let named = env::args().nth(1).or_else(|| env::var("EMBERGEM_MODEL").ok());
    let name = named.unwrap_or_else(|| "google/embeddinggemma-300m".to_owned());
    let model = EmbeddingModelBuilder::new(name).build().await?;
    let info = model.info().await?;
    println!("{}: tasks {}", info.id, info.tasks.join(", "));

    let smallest = info.allowed_dimensions.last().copied().unwrap_or(info.dimensions);
    let query = EmbeddingRequest::builder()
        .add_prompt("Which planet is red?")
        .with_task(Task::Query)
        .with_dimensions(smallest);
    let documents = EmbeddingRequest::builder()
        .add_document("Venus", "Venus is often called the twin of the Earth.")
        .add_document("Mars", "Iron oxide gives the fourth planet its colour.")
        .add_prompt("Saturn has rings of ice.")
        .with_task(Task::Document)
        .with_dimensions(smallest);
    let query = model.embed(query).await?;
    let documents = model.embed(documents).await?;
    for (index, document) in documents.iter().enumerate() {
        let cosine: f32 = document.iter().zip(query.as_flat()).map(|(a, b)| a * b).sum();
        println!("document {index}: {cosine:.3}");
    }
    println!(
        "{} numbers each, {} tokens read",
        documents.dimensions(),
        query.tokens() + documents.tokens()
    );
    Ok(())
}
