"""CamemBERT encoders: the arithmetic of RoBERTa with other special tokens, which are in the tokenizer.

Separate because each model family is one file.
"""

from embergem.models.family import Family

FAMILY = Family(
    title="CamemBERT",
    checkpoints="sentence-camembert-base, sentence-camembert-large",
    differs="RoBERTa for French: `<s>` is 5 and `</s>` is 6",
    model_types=("camembert",),
    arithmetic="roberta",
    special_tokens=("opening", "closing"),
    prefixes=("roberta.",),
)
