"""Probes of the steps from text to tokens."""

import numpy as np

from embergem._native import prompt_sets
from embergem.selfcheck.context import CheckContext, similar_models
from embergem.selfcheck.report import PROBES, Finding, finding
from embergem.types import Ids


def special_tokens(context: CheckContext) -> Finding:
    """Every text begins and ends with the special tokens that the model was trained with."""
    base, roles = context.base, context.special_tokens
    if not roles:
        return finding("special_tokens", "none")
    texts = PROBES.special_token_texts
    rows = [tokens(context, text) for text in texts]
    if any(len(row) <= len(roles) for row in rows):
        return finding("special_tokens", "short", text=texts[0], tokens=len(rows[0]))
    for role, ids, wanted in (
        ("opening", {int(row[0]) for row in rows}, base.opening if base else None),
        ("closing", {int(row[-1]) for row in rows}, base.closing if base else None),
    ):
        found = " or ".join(map(str, sorted(ids)))
        if wanted is not None and ids != {wanted}:
            return finding("special_tokens", role, found=found, wanted=wanted)
        if role in roles and len(ids) > 1:
            return finding("special_tokens", f"different_{role}", found=found)
    return finding("special_tokens", "present")


def truncation(context: CheckContext) -> Finding:
    """A text that is cut has exactly the limit and keeps its closing token."""
    limit = context.limit
    if "closing" not in context.special_tokens:
        return finding("truncation", "none")
    text = PROBES.repeated_text * min(limit + 8, 1 << 16)
    length = len(context.text.tokenize(text))
    [(row, _)] = context.text.prepare([text], truncate=True)
    closing = tokens(context, PROBES.short_texts[0])[-1]
    if length <= limit:
        return finding("truncation", "untested")
    if len(row) != limit or row[-1] != closing:
        return finding("truncation", "lost", limit=limit, tokens=len(row), found=row[-1], wanted=closing)
    return finding("truncation", "kept", length=length, tokens=len(row))


def prompts(context: CheckContext) -> Finding:
    """The tasks of the model have the prompts that it was trained with."""
    base, tasks = context.base, context.text.tasks
    if tasks and (base is None or base.prompts is None):
        return finding("prompts", "own", tasks=", ".join(tasks))
    if base is None:
        return _undeclared(context)
    if base.prompts is None:
        return finding("prompts", "promptless", model=base.id)
    different = []
    for task, pattern in prompt_sets()[base.prompts].items():
        if not task[0].islower():
            continue  # a checkpoint that declares prompts does not get these names from the set
        wanted = tokens(context, pattern.format(title="none", content=PROBES.prompted_text))
        if not np.array_equal(wanted, tokens(context, PROBES.prompted_text, task)):
            different.append(task)
    outcome = "different" if different else "same"
    return finding("prompts", outcome, tasks=", ".join(different), model=base.id)


def _undeclared(context: CheckContext) -> Finding:
    """Report a model without prompts that nothing names: models of its shape may have prompts."""
    prompted = [entry.id for entry in similar_models(context) if entry.prompts]
    if not prompted:
        return finding("prompts", "undeclared")
    directories = " or ".join(model.rpartition("/")[2] for model in prompted)
    return finding("prompts", "similar", models=", ".join(prompted), directories=directories)


def limit(context: CheckContext) -> Finding:
    """The limit is the one that the model was published with."""
    base = context.base
    if base is None or context.limit == base.limit:
        return finding("limit", "same", limit=context.limit)
    return finding("limit", "different", limit=context.limit, model=base.id, published=base.limit)


def tokens(context: CheckContext, text: str, task: str | None = None) -> Ids:
    """Return the ids of one text, cut to the limit."""
    [(ids, _)] = context.text.prepare([text], task=task, truncate=True)
    return ids
