//! Loads two models into one process: `cargo run --release --package embergem --example multi_model [MODEL MODEL]`.

use embergem::{EmbeddingModelBuilder, EmbeddingRequest, MultiModelBuilder, Result};
use std::env;

#[tokio::main]
async fn main() -> Result<()> {
    let mut names = env::args().skip(1);
    let first = names.next().unwrap_or_else(|| "minilm".to_owned());
    let second = names.next().unwrap_or_else(|| "google/embeddinggemma-300m".to_owned());
    let models = MultiModelBuilder::new()
        .add_model_with_alias("small", EmbeddingModelBuilder::new(first))
        .add_model_with_alias("large", EmbeddingModelBuilder::new(second).with_threads(1))
        .with_default_model("small")
        .build()
        .await?;

    for name in ["small", "large"] {
        let request = EmbeddingRequest::builder().add_prompt("What is graphene?");
        let vectors = models.generate_embeddings_with_model(request, Some(name)).await?;
        println!("{name}: {} numbers", vectors[0].len());
    }

    models.unload_model("large")?;
    for (id, status) in models.list_models_with_status()? {
        println!("{id}: {status}");
    }
    models
        .generate_embedding_with_model("This request loads the model again.", Some("large"))
        .await?;
    assert!(models.is_model_loaded("large")?);
    Ok(())
}
