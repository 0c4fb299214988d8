//! Embeds a hundred texts in one request; each vector has the same bits as alone: `cargo run --release --package
//! embergem --example batching [MODEL]`.

use embergem::{EmbeddingModelBuilder, EmbeddingRequest, Result};
use std::env;

const TEXTS: [&str; 2] = [
    "What is graphene?",
    "A honeycomb of carbon atoms, one atom thick, is called graphene.",
];

#[tokio::main]
async fn main() -> Result<()> {
    let named = env::args().nth(1).or_else(|| env::var("EMBERGEM_MODEL").ok());
    let name = named.unwrap_or_else(|| "minilm".to_owned());
    let model = EmbeddingModelBuilder::new(name).build().await?;

    let texts = (0..100).map(|index| TEXTS[index % 2]);
    let batched = model
        .generate_embeddings(EmbeddingRequest::builder().add_prompts(texts))
        .await?;
    let alone = [
        model.generate_embedding(TEXTS[0]).await?,
        model.generate_embedding(TEXTS[1]).await?,
    ];
    for (index, vector) in batched.iter().enumerate() {
        assert_eq!(*vector, alone[index % 2]);
    }

    // Requests of several async tasks share batches, too.
    let tasks: Vec<_> = (0..100)
        .map(|index| {
            let model = model.clone();
            tokio::spawn(async move { model.generate_embedding(TEXTS[index % 2]).await })
        })
        .collect();
    for (index, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.expect("the task doesn't panic")?, alone[index % 2]);
    }
    println!("{} vectors, the same alone, batched and from many tasks", batched.len());
    Ok(())
}
