"""Reads the files of a model into a `Checkpoint`, without its weights, and writes weight files."""
