"""A corpus with duplicates, nulls and long rows, and a job that is stopped in the middle."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def corpus(tmp_path):
    """A Parquet file of 900 rows: a third are duplicates, every ninth is null, and some are above the limit of 128."""
    texts = [
        None if row % 9 == 4 else "graphene " * 200 if row % 100 == 7 else f"text number {row % 600}"
        for row in range(900)
    ]
    table = pa.table({"id": [f"r{row}" for row in range(900)], "text": texts, "year": range(900)})
    path = tmp_path / "corpus.parquet"
    pq.write_table(table, path, row_group_size=250)
    return path


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of about 64 rows and blocks of about 200 tokens, so that a small job has many."""
    monkeypatch.setattr("embergem.bulk.parts.PART_ROWS", 64)
    monkeypatch.setattr("embergem.bulk.blocks.BLOCK_TOKENS", 200)
