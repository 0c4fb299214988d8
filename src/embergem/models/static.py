"""Static models (Model2Vec, the potion family): a table of token vectors, and their mean.

There is no transformer. A text gets no special tokens, and tokens that the tokenizer does not know are dropped. The
vectors of the remaining tokens are averaged; the vector of a text with no tokens is zero.

Separate because each model family is one file.
"""

from dataclasses import dataclass
from typing import Any

from embergem.models.config import fields_of
from embergem.ops import Batch, Ops, Value, Weights

BUILTIN_PROMPTS = None
TRAINED_DIMENSIONS = ()
BARE = True


@dataclass(frozen=True, slots=True)
class Config:
    """The fields of config.json that the forward pass reads; the size of the table is the stored tensor's."""

    vocab_size: int
    hidden_size: int

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> "Config":
        """Read config.json, with the sizes of the table beside it; refuse what changes the arithmetic."""
        read = fields_of(config)
        read.expect("vocabulary_quantization", None)
        return cls(vocab_size=read.need("vocab_size", int), hidden_size=read.need("hidden_size", int))


def forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value:
    """Ids to their rows of the table, (t, hidden_size)."""
    return ops.embed(batch, weights("embeddings", config.vocab_size, config.hidden_size))
