"""Collect nothing outside the environment of `make test-integrations`."""

from importlib import import_module
from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("langchain_core") else ["*"]

if not collect_ignore_glob:
    # These libraries set environment variables when they are imported, which fails the test that imports one first.
    for library in ("sklearn.linear_model", "pyarrow", "duckdb", "pandas", "polars", "lancedb", "chromadb"):
        import_module(library)
