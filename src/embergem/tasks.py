"""Task names. The templates behind them live in crates/text, one copy for all languages."""

from enum import StrEnum


class Task(StrEnum):
    """What a text is embedded for; the model's template for it is put around the text.

    Code blocks are embedded as documents; only the question asked about code is `CODE_RETRIEVAL`.

    >>> Task("query") is Task.QUERY
    True
    """

    QUERY = "query"
    DOCUMENT = "document"
    QUESTION_ANSWERING = "question_answering"
    FACT_VERIFICATION = "fact_verification"
    CLASSIFICATION = "classification"
    CLUSTERING = "clustering"
    SEMANTIC_SIMILARITY = "semantic_similarity"
    CODE_RETRIEVAL = "code_retrieval"
