"""Embed a CSV file into a Parquet file and search it: python examples/python/embed_corpus.py [MODEL].

The file has a duplicate, which is embedded once, and a row without a text, which is left out and listed in a report.
Needs pyarrow: pip install 'embergem[bulk]'.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from embergem import Embedder
from embergem.bulk import embed_table

ROWS = """id,text
g1,Graphene is a single layer of carbon atoms.
b1,Sourdough bread rises overnight in a cool kitchen.
g2,Graphene is a single layer of carbon atoms.
x1
s1,The ship left the harbour at dawn.
"""

with tempfile.TemporaryDirectory() as directory, Embedder(*sys.argv[1:2]) as embedder:
    corpus, output = Path(directory) / "corpus.csv", Path(directory) / "vectors.parquet"
    corpus.write_text(ROWS)
    summary = embed_table(corpus, output, embedder, id="id", keep=["text"], on_error="skip")
    counts = summary.counts
    print(f"{counts.rows} rows, {counts.computed} computed, {counts.duplicates} duplicate, {counts.skipped} skipped")

    table = pq.read_table(output)
    vectors = table["embedding"].combine_chunks().values.to_numpy().reshape(table.num_rows, -1)
    [scores] = embedder.similarity(embedder.embed_query("What is carbon made into?"), vectors)
    for place in np.argsort(-scores, kind="stable")[:2]:
        print(f"{scores[place]:.3f}  {table['id'][place]}  {table['text'][place]}")
