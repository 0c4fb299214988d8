//! Embedding models on the CPU: the engine of the Python package `embergem`, without Python.
//!
//! ```
//! use embergem::{EmbeddingModelBuilder, EmbeddingRequest, Task};
//!
//! # #[tokio::main]
//! # async fn main() -> embergem::Result<()> {
//! # let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/goldens/gemma3_text");
//! let model = EmbeddingModelBuilder::new(directory).build().await?;
//! let request = EmbeddingRequest::builder()
//!     .add_prompts(["What is graphene?", "Who was Marie Curie?"])
//!     .with_task(Task::Query);
//! let embeddings = model.embed(request).await?;
//! assert_eq!((embeddings.len(), embeddings.dimensions()), (2, 96));
//! # Ok(())
//! # }
//! ```
//!
//! [`EmbeddingModelBuilder::new`] takes a directory as sentence-transformers or `embergem compile` writes it, a hub id such
//! as `google/embeddinggemma-300m`, or a name of the catalog such as `minilm`. `EmbeddingModel::connect` takes the address
//! of a server instead; the methods are the same.
//!
//! The vector of a text has the same bits alone, in any batch and with any number of threads, and the same bits as in
//! Python on the same machine. docs/rust.md lists the differences between this crate and the Python package.
//!
//! Features, all on by default: `hub` downloads models, `client` connects to servers.

/// The programs of docs/rust.md and docs/migration.md, which rustdoc compiles as tests.
#[cfg(all(doctest, feature = "client"))]
#[doc = include_str!("../../../docs/rust.md")]
#[doc = include_str!("../../../docs/migration.md")]
struct Pages;

mod blocking;
mod builder;
mod cache;
mod cards;
mod catalog;
#[cfg(feature = "client")]
mod client;
mod compiled;
mod embeddings;
mod engine;
mod error;
#[cfg(feature = "hub")]
mod hub;
mod job;
mod logging;
mod model;
mod options;
mod paths;
mod prepare;
mod queue;
mod registry;
mod request;
mod resolve;
#[cfg(test)]
mod sdk_cases;
mod selfcheck;
mod sha256;
mod unread;
mod worker;

pub use builder::{EmbeddingModelBuilder, MultiModelBuilder};
pub use embeddings::Embeddings;
pub use engine::ModelInfo;
pub use error::{Error, Result};
pub use model::EmbeddingModel;
pub use options::{EmbeddingLoaderType, ModelDType, TokenSource};
pub use registry::ModelStatus;
pub use request::{EmbeddingRequest, EmbeddingRequestBuilder, EmbeddingRequestInput, Task};

/// The name of [`EmbeddingModel`] in mistral.rs.
pub type Model = EmbeddingModel;
