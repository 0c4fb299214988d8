"""From the name of a model to its files: caches, wheels and the hub."""
