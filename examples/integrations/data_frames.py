"""Vectors in pandas and polars, and in a Parquet file: python examples/integrations/data_frames.py [MODEL]."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

from embergem import Embedder
from embergem.integrations.arrow import embed_column

FACTS = ["Graphene is a single layer of carbon atoms.", "An apple is the fruit of an apple tree."]
QUERY = "What is graphene?"

with Embedder(*sys.argv[1:]) as embedder, tempfile.TemporaryDirectory() as directory:
    query = embedder.embed_query(QUERY)

    # pandas: one array a cell. `np.stack` makes the matrix again.
    frame = pd.DataFrame({"text": FACTS})
    frame["embedding"] = list(embedder.embed_documents(frame["text"]))
    path = Path(directory) / "facts.parquet"
    frame.to_parquet(path)
    stored = pd.read_parquet(path)
    stored["score"] = embedder.similarity(query, np.stack(stored["embedding"]))[0]
    print("pandas:", stored.sort_values("score", ascending=False).iloc[0]["text"])

    # polars: a column of arrays of one size, from Arrow without a copy of the numbers.
    table = pl.from_arrow(embed_column(embedder, pl.DataFrame({"text": FACTS}), "text"))
    assert isinstance(table, pl.DataFrame)
    scores = embedder.similarity(query, table["embedding"].to_numpy())[0]
    best = table.with_columns(score=scores).sort("score", descending=True)
    print("polars:", best["text"][0], best.schema["embedding"])
