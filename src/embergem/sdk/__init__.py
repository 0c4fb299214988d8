"""What `Embedder` and `AsyncEmbedder` share: requests, their split into chunks, and the forms of vectors. No HTTP."""
