"""`Task`: the names of prompts. The templates are in crates/text, for Python and Rust.

Separate because it is public and has no dependencies.
"""

from enum import StrEnum


class Task(StrEnum):
    """The purpose of an embedding; the model's prompt for it is put around the text.

    Embed code as `DOCUMENT`, and questions about code as `CODE_RETRIEVAL`.

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
