"""Static models (Model2Vec, the potion family): a table of token vectors, and their mean.

There is no transformer. A text gets no special tokens, and tokens that the tokenizer does not know are dropped. The
vectors of the remaining tokens are averaged; the vector of a text with no tokens is zero.

Separate because each model family is one file.
"""

from dataclasses import dataclass

from embergem.models.config import Fields
from embergem.models.family import Family, Inert
from embergem.ops import Batch, Ops, Value, Weights

FAMILY = Family(
    title="Static (Model2Vec)",
    checkpoints="potion family",
    differs="a table and a mean",
    model_types=("model2vec",),
    special_tokens=(),
    fields=("vocab_size", "hidden_size"),
    inert=(Inert("vocabulary_quantization", (None,), "maps several tokens to one row of the table"),),
)


@dataclass(frozen=True, slots=True)
class Config:
    """The shape of the table. The checkpoint reader adds it to config.json, from the stored tensor."""

    vocab_size: int
    hidden_size: int


def read_config(fields: Fields) -> Config:
    """Read config.json."""
    return Config(vocab_size=fields.need("vocab_size", int), hidden_size=fields.need("hidden_size", int))


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Ids to their rows of the table, (t, hidden_size)."""
    return ops.embed(batch, weights("embeddings", config.vocab_size, config.hidden_size))
