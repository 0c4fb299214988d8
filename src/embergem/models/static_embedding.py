"""StaticEmbedding of sentence-transformers: static-retrieval-mrl, static-similarity-mrl.

The arithmetic is that of Model2Vec. Tokens that the tokenizer does not know are kept, and there is no config.json: the
checkpoint reader makes one from modules.json and the table.

Separate because each model family is one file.
"""

from embergem.models.family import Family

FAMILY = Family(
    title="Static (sentence-transformers)",
    checkpoints="static-retrieval-mrl, static-similarity-mrl",
    differs="a table and a mean, unknown tokens included",
    model_types=("static_embedding",),
    arithmetic="static",
    special_tokens=(),
    keep_unknown=True,
)
