"""Static models (Model2Vec, the potion family): a table of token vectors, and their mean.

There is no transformer. A text gets no special tokens, and tokens that the tokenizer does not know are dropped. The
vectors of the remaining tokens are averaged; the vector of a text with no tokens is zero.

Model2Vec 0.7 and later may store a weight for each token, and a table with fewer rows than tokens (vocabulary
quantisation), with the row of each token beside it. An int8 table has no scale: its numbers are the values.

Separate because each model family is one file.
"""

from dataclasses import dataclass

from embergem.errors import CorruptCheckpoint
from embergem.models.config import Fields
from embergem.models.family import Family, Inert
from embergem.ops import Batch, Ops, Value, Weights

FAMILY = Family(
    title="Static (Model2Vec)",
    checkpoints="potion family",
    differs="a table and a mean",
    model_types=("model2vec",),
    special_tokens=(),
    fields=(
        "vocab_size",
        "hidden_size",
        "table",
        "table_rows",
        "token_weights",
        "integer_table",
        "vocabulary_quantization",
    ),
    inert=(
        Inert("normalize", "any", "becomes the head of the model"),
        Inert("max_length", "any", "becomes the limit of the model"),
        Inert("embedding_dtype", "any", "the file of the table says its type"),
        Inert("tokenizer_name", "any", "says how the table was made"),
        Inert("apply_pca", "any", "says how the table was made"),
        Inert("apply_zipf", "any", "says how the table was made"),
        Inert("sif_coefficient", "any", "says how the table was made"),
        Inert("hidden_dim", "any", "says how the table was made"),
        Inert("pooling", "any", "says how the table was made"),
    ),
)


@dataclass(frozen=True, slots=True)
class Config:
    """The table. The checkpoint reader adds these fields to config.json, from the stored tensors.

    `table` is its name. `table_rows` is None where the table has a row for each token; otherwise the tensor `mapping`
    has the row of each token. With `token_weights` the tensor `weights` has a factor for each token.
    """

    vocab_size: int
    hidden_size: int
    table: str = "embeddings"
    table_rows: int | None = None
    token_weights: bool = False
    integer_table: bool = False


def read_config(fields: Fields) -> Config:
    """Read config.json."""
    rows = fields.get("table_rows", int, 0)
    quantised = fields.get("vocabulary_quantization", int, rows)
    if quantised != rows:
        raise CorruptCheckpoint(
            f"config.json: vocabulary_quantization is {quantised}, and the weights have a mapping to {rows} rows. "
            "Download or save the model again."
        )
    return Config(
        vocab_size=fields.need("vocab_size", int),
        hidden_size=fields.need("hidden_size", int),
        table=fields.get("table", str, "embeddings"),
        table_rows=rows or None,
        token_weights=fields.get("token_weights", bool, False),
        integer_table=fields.get("integer_table", bool, False),
    )


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Ids to their rows of the table, (t, hidden_size)."""
    c = config
    return ops.embed(
        batch,
        weights(c.table, c.table_rows or c.vocab_size, c.hidden_size),
        integers=c.integer_table,
        mapping=weights("mapping", c.vocab_size) if c.table_rows else None,
        weights=weights("weights", c.vocab_size) if c.token_weights else None,
    )
