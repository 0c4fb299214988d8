"""The selector style and the builder style of mistral.rs, on this engine."""
