//! Embeds on a running `embergem serve`, with the methods of a local model: `cargo run --release --package embergem
//! --example client [URL]`.

use embergem::{EmbeddingModel, EmbeddingRequest, Result};
use std::env;

#[tokio::main]
async fn main() -> Result<()> {
    let url = env::args().nth(1).unwrap_or_else(|| "http://localhost:1234".to_owned());
    let model = EmbeddingModel::connect(url).await?;
    println!("It serves {}", model.list_models()?.join(", "));

    let request = EmbeddingRequest::builder().add_prompts(["What is graphene?", "Who was Marie Curie?"]);
    let embeddings = model.embed(request).await?;
    println!(
        "Returned {} vectors of {} numbers",
        embeddings.len(),
        embeddings.dimensions()
    );
    Ok(())
}
