"""From a model's name to its files, and from its files to what the engine needs to know."""
