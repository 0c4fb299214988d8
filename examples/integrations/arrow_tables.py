"""Vectors beside a table in polars, pandas and DuckDB: python examples/integrations/arrow_tables.py [MODEL]."""

import sys

import duckdb
import polars as pl

from embergem import Embedder
from embergem.integrations.arrow import embed_column

frame = pl.DataFrame({"id": [1, 2], "text": ["Graphene is a layer of carbon.", "An apple is a fruit."]})
with Embedder(*sys.argv[1:]) as embedder:
    table = embed_column(embedder, frame, "text")
    query = embedder.embed_query("What is graphene?", output="list")[0]
print(pl.from_arrow(table).schema)
print(table.to_pandas()["embedding"][0].shape)
connection = duckdb.connect()
connection.register("facts", table)
distance = f"array_cosine_distance(embedding, $1::FLOAT[{len(query)}])"
print(connection.execute(f"SELECT text FROM facts ORDER BY {distance} LIMIT 1", [query]).fetchone()[0])
