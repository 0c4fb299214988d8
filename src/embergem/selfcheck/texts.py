"""Probes of the way from text to tokens."""

import numpy as np

from embergem._native import prompt_sets
from embergem.selfcheck.context import CheckContext, relatives
from embergem.selfcheck.report import Finding
from embergem.types import Ids

_TOKENIZER = "The tokenizer.json is another model's, or its post_processor was lost on the way (a conversion, an old \
transformers). Take tokenizer.json from the original model"


def special_tokens(context: CheckContext) -> Finding:
    """Every text begins and ends with the tokens that the model was trained with."""
    name, kin = "special_tokens", context.kin
    opened, closed = "opening" in context.special_tokens, "closing" in context.special_tokens
    if not (opened or closed):
        return Finding(name, "ok", "the family has no special tokens around a text")
    texts = ["a", "the layers of graphene, 東京"]
    rows = [tokens(context, text) for text in texts]
    firsts, lasts = {int(row[0]) for row in rows}, {int(row[-1]) for row in rows}
    least = 1 + int(opened) + int(closed)
    if any(len(row) < least for row in rows):
        return Finding(name, "error", f"the text {texts[0]!r} has only {len(rows[0])} tokens", _TOKENIZER)
    for asked, found, wanted, what in (
        (opened, firsts, kin.opening if kin else None, "begins"),
        (closed, lasts, kin.closing if kin else None, "ends"),
    ):
        if wanted is not None and found != {wanted}:
            message = f"a text {what} with token {in_words(found)} instead of the special token {wanted}"
            return Finding(name, "error", message, _TOKENIZER)
        if asked and len(found) > 1:
            message = f"texts {what[:-1]} with different tokens ({in_words(found)}), so no special token stands there"
            return Finding(name, "error", message, _TOKENIZER)
    return Finding(name, "ok", "special tokens are in their places")


def truncation(context: CheckContext) -> Finding:
    """A text that is cut keeps its closing token and has exactly the limit."""
    if "closing" not in context.special_tokens:
        return Finding("truncation", "ok", "the family has no closing token that a cut could lose")
    text = "graphene " * min(context.limit + 8, 1 << 16)
    [(row, length)] = context.text.prepare([text], truncate=True)
    plain = tokens(context, "a")
    if length <= context.limit:
        return Finding("truncation", "ok", "no text that can be made here is too long")
    if len(row) != context.limit or row[-1] != plain[-1]:
        return Finding(
            "truncation", "error", f"a text cut to the limit of {context.limit} has {len(row)} tokens and ends in "
            f"{int(row[-1])} instead of {int(plain[-1])}", _TOKENIZER,
        )  # fmt: skip
    return Finding("truncation", "ok", f"a text of {length} tokens is cut to {len(row)} and keeps its closing token")


def prompts(context: CheckContext) -> Finding:
    """The prompts that the model was trained with are known by their tasks, and are those of its kind."""
    name, kin = "prompts", context.kin
    if context.text.tasks and (kin is None or kin.prompts is None):
        return Finding(name, "ok", f"tasks: {', '.join(context.text.tasks)}")
    if kin is None:
        return _unknown(context)
    if kin.prompts is None:
        return Finding(name, "ok", f"{kin.id} has no prompts")
    different = []
    for task, pattern in prompt_sets()[kin.prompts].items():
        if not task[0].islower():
            continue  # a name that only the checkpoint's own list may have
        wanted = tokens(context, pattern.format(title="none", content="graphene"))
        if not np.array_equal(wanted, tokens(context, "graphene", task)):
            different.append(task)
    if different:
        return Finding(
            name, "warn", f"the checkpoint has prompts of its own for {', '.join(different)}",
            f"Right for a fine-tune that was trained so; otherwise take config_sentence_transformers.json of {kin.id}",
        )  # fmt: skip
    return Finding(name, "ok", f"the prompts are those of {kin.id}")


def _unknown(context: CheckContext) -> Finding:
    """What is to be said of a model without prompts whose name is not known."""
    prompted = [entry.id for entry in relatives(context) if entry.prompts]
    if not prompted:
        return Finding("prompts", "ok", "the model declares no prompts")
    directories = " or ".join(model.rpartition("/")[2] for model in prompted)
    return Finding(
        "prompts", "warn",
        f"the model declares no prompts, and models of its shape were trained with some: {', '.join(prompted)}",
        f"If it is one of these or made from one, load it from a directory called {directories}, or write its prompts "
        "into config_sentence_transformers.json; its tasks are known then. If it was trained without prompts, all is "
        "well",
    )  # fmt: skip


def limit(context: CheckContext) -> Finding:
    """The limit is the one that the model was published with."""
    name, kin = "limit", context.kin
    if kin is None or context.limit == kin.limit:
        return Finding(name, "ok", f"inputs have up to {context.limit} tokens")
    return Finding(
        name, "warn", f"inputs are limited to {context.limit} tokens; {kin.id} reads {kin.limit}",
        "max_seq_length in sentence_bert_config.json or model_max_length in tokenizer_config.json says so; change it "
        "there if it was not meant",
    )  # fmt: skip


def tokens(context: CheckContext, text: str, task: str | None = None) -> Ids:
    """Ids of one text, cut to the limit."""
    [(ids, _)] = context.text.prepare([text], task=task, truncate=True)
    return ids


def in_words(ids: set[int]) -> str:
    """List ids."""
    return " or ".join(str(number) for number in sorted(ids))
