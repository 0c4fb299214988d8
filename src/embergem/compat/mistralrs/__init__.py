"""Classes with the interface of mistral.rs: `Runner` with `Which` selectors, and `EmbeddingModelBuilder`."""
