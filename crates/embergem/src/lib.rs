//! Embedding models on the CPU: text in, vectors out, from the same engine as the Python package, without Python.
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
//! [`EmbeddingModelBuilder::new`] takes a directory as sentence-transformers saves it, a hub id such as
//! `google/embeddinggemma-300m`, or a name of the catalog such as `minilm`. `EmbeddingModel::connect` takes the address
//! of a server instead; the rest is the same.
//!
//! A text's vector is the same bits alone, in any batch and with any number of threads, and the same bits that Python
//! gets on the same machine.
//!
//! Features, all on by default: `hub` downloads models, `client` speaks to servers.

mod background;
mod builder;
mod catalog;
mod checkpoint;
#[cfg(feature = "client")]
mod client;
mod compiled;
mod embeddings;
mod engine;
mod error;
#[cfg(feature = "hub")]
mod hub;
mod kept;
mod logging;
mod model;
mod origin;
mod programs;
mod queue;
mod registry;
mod request;
mod resolve;
mod settings;
mod source;
mod worker;

pub use builder::{EmbeddingModelBuilder, MultiModelBuilder};
pub use embeddings::Embeddings;
pub use engine::ModelInfo;
pub use error::{Error, Result};
pub use model::EmbeddingModel;
pub use registry::ModelStatus;
pub use request::{EmbeddingRequest, EmbeddingRequestBuilder, EmbeddingRequestInput, Task};
pub use settings::{EmbeddingLoaderType, ModelDType, TokenSource};

/// [`EmbeddingModel`] by the name that other crates give to what their builders build.
pub type Model = EmbeddingModel;
