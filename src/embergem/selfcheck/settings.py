"""Probes of config.json and modules.json: they compare them with the catalog.

Separate because `selfcheck.published` also needs to know whether dense layers are missing.
"""

import json

from embergem import catalog
from embergem.models.head import Dense
from embergem.selfcheck.context import CheckContext
from embergem.selfcheck.report import Finding, finding


def dense_layers(context: CheckContext) -> Finding:
    """The head has as many dense layers as this kind of model has."""
    if context.head is None:
        return finding("dense_layers", "compiled")
    found, wanted = _count(context)
    missing = "allowed" if context.dense_optional else "missing"
    return finding("dense_layers", missing if found < wanted else "present", found=found, wanted=wanted)


def lacks_dense_layers(context: CheckContext) -> bool:
    """Return whether a model has fewer dense layers than its kind. A compiled model has no head to count them in."""
    found, wanted = _count(context)
    return context.head is not None and found < wanted


def _count(context: CheckContext) -> tuple[int, int]:
    """Return how many dense layers there are, and how many this kind of model has."""
    wanted = context.base.dense if context.base else None
    found = sum(isinstance(module, Dense) for module in context.head or ())
    return found, (catalog.shared(context.model_type, "dense") or 0) if wanted is None else wanted


def config(context: CheckContext) -> Finding:
    """The values of config.json are those of the model in the catalog that it is, or was fine-tuned from.

    A model with the name of one in the catalog also has vectors of its size.
    """
    entry, found = context.entry, context.dimensions
    if entry is not None and entry.dimensions != found:
        outcome = "other_size" if context.hub_id else "other_size_here"
        return finding("config", outcome, found=found, wanted=entry.dimensions, model=entry.id)
    base, have, window = context.base, context.config, context.window
    if base is None or not base.config or have is None:
        return finding("config", "unknown")
    different = {key: value for key, value in sorted(base.config.items()) if getattr(have, key, None) != value}
    if window is not None:
        different.pop("radius", None)
    if "radius" in different:
        return finding(
            "config", "window", reach=have.radius, published=different["radius"], model=base.id, window=base.window
        )
    if different:
        values = [
            f"{key} is {json.dumps(getattr(have, key, None))} instead of {json.dumps(value)}"
            for key, value in different.items()
        ]
        return finding("config", "different", values=", ".join(values), model=base.id)
    return finding("config", "same" if window is None else "chosen", model=base.id, window=window)
