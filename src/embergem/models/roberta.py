"""RoBERTa encoders, XLM-RoBERTa among them: bge-m3, multilingual-e5, arctic-embed-l-v2, all-distilroberta.

The arithmetic is BERT's. Positions begin after the row of the padding token: two rows into the position table where
the padding token has id 1. A padding token in a text gets that row, and is not counted (transformers,
`create_position_ids_from_input_ids`).

Separate because each model family is one file.
"""

from dataclasses import replace

from embergem.models import bert
from embergem.models.bert import forward
from embergem.models.config import Fields
from embergem.models.family import Family, Inert

__all__ = ["FAMILY", "forward", "read_config"]

FAMILY = Family(
    title="RoBERTa, XLM-RoBERTa",
    checkpoints="bge-m3, multilingual-e5, arctic-l-v2, all-distilroberta",
    differs="position offset, unigram or byte-level tokenizer",
    model_types=("roberta", "xlm-roberta"),
    arch=("roberta",),
    special_tokens=("opening", "closing"),
    prefixes=("roberta.",),
    fields=(
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_hidden_layers",
        "max_position_embeddings",
        "pad_token_id",
        "type_vocab_size",
        "layer_norm_eps",
        "hidden_act",
    ),
    inert=(
        Inert("position_embedding_type", ("absolute", None), "the relative kinds add a term to the attention scores"),
        Inert("is_decoder", (False,), "a decoder attends to earlier tokens only"),
        Inert("add_cross_attention", (False,), "cross-attention reads the output of another model"),
    ),
)


def read_config(fields: Fields) -> bert.Config:
    """Read config.json."""
    return replace(bert.read_config(fields), position_offset=fields.get("pad_token_id", int, 1) + 1)
