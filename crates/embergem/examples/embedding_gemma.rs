//! Embeds one text: `cargo run --release --package embergem --example embedding_gemma [MODEL]`.
//!
//! MODEL is a directory, a hub id or a name of the catalog. The default is `EMBERGEM_MODEL`, or
//! google/embeddinggemma-300m if that is not set.

use embergem::{EmbeddingModelBuilder, EmbeddingRequest, Result};
use std::env;

#[tokio::main]
async fn main() -> Result<()> {
    let named = env::args().nth(1).or_else(|| env::var("EMBERGEM_MODEL").ok());
    let name = named.unwrap_or_else(|| "google/embeddinggemma-300m".to_owned());
    let model = EmbeddingModelBuilder::new(name).with_logging().build().await?;

    let request = EmbeddingRequest::builder().add_prompt("task: search result | query: What is graphene?");
    let embeddings = model.generate_embeddings(request).await?;

    println!("Returned {} vectors", embeddings.len());
    Ok(())
}
