"""Probes of what config.json and modules.json say, against the catalog."""

from embergem import catalog
from embergem.models.head import Dense
from embergem.selfcheck.context import CheckContext
from embergem.selfcheck.report import Finding


def dense_layers(context: CheckContext) -> Finding:
    """The dense layers after pooling are there."""
    name = "dense_layers"
    if context.head is None:
        return Finding(name, "ok", "a compiled model has its head in its program")
    found, wanted = _count(context)
    if not lacks_dense_layers(context):
        return Finding(name, "ok", f"the head has {found} dense layers" if found else "the head has no dense layers")
    message = f"the head has {found} dense layers after pooling; this kind of model has {wanted}"
    if context.dense_optional:
        return Finding(name, "warn", message, "Allowed by allow_missing_dense: vectors are a space of their own")
    return Finding(
        name, "error", message,
        "A conversion left them out, and vectors without them are markedly worse. Take them from the original model "
        "with --dense-from google/embeddinggemma-300m (dense_from= in Python); --allow-missing-dense goes without",
    )  # fmt: skip


def lacks_dense_layers(context: CheckContext) -> bool:
    """Whether a model has fewer dense layers than its kind; a compiled one has none to count."""
    found, wanted = _count(context)
    return context.head is not None and found < wanted


def _count(context: CheckContext) -> tuple[int, int]:
    """How many dense layers there are, and how many there should be."""
    wanted = context.kin.dense if context.kin else None
    found = sum(isinstance(module, Dense) for module in context.head or ())
    return found, (catalog.shared(context.model_type, "dense") or 0) if wanted is None else wanted


def config(context: CheckContext) -> Finding:
    """The values of config.json are those of the model it is, or was fine-tuned from."""
    name, kin = "config", context.kin
    if kin is None or not kin.config or context.config is None:
        return Finding(name, "ok", "the catalog has no values to compare with")
    have = context.config
    different = {key: value for key, value in kin.config.items() if getattr(have, key, None) != value}
    if context.window is not None:
        different.pop("radius", None)
    if "radius" in different:
        return Finding(
            name, "warn",
            f"the window reaches {have.radius} tokens each way; that of {kin.id} reaches {different['radius']}",
            "Versions of transformers before late 2026 halve it each time a fine-tune is saved. If this one was "
            f"trained with the original's, give --window {kin.window}, or write it into config.json",
        )  # fmt: skip
    if different:
        said = ", ".join(f"{key} is {getattr(have, key, None)} instead of {value}" for key, value in different.items())
        return Finding(name, "warn", f"config.json: {said}", f"Compare it with that of {kin.id}")
    chosen = "" if context.window is None else f"; the window of {context.window} is the caller's choice"
    return Finding(name, "ok", f"the values are those of {kin.id}{chosen}")
