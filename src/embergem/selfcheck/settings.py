"""Probes of what config.json and modules.json say, against the catalog."""

from embergem.models import DENSE_LAYERS
from embergem.models.head import Dense
from embergem.selfcheck.context import Subject
from embergem.selfcheck.report import Finding


def dense_layers(subject: Subject) -> Finding:
    """The dense layers after pooling are there."""
    name = "dense_layers"
    if subject.head is None:
        return Finding(name, "ok", "a compiled model has its head in its program")
    found, wanted = _count(subject)
    if not lacks_dense_layers(subject):
        return Finding(name, "ok", f"the head has {found} dense layers" if found else "the head has no dense layers")
    message = f"the head has {found} dense layers after pooling; this kind of model has {wanted}"
    if subject.dense_optional:
        return Finding(name, "warn", message, "Allowed by allow_missing_dense: vectors are a space of their own")
    return Finding(
        name, "error", message,
        "A conversion left them out, and vectors without them are markedly worse. Take them from the original model "
        "with --dense-from google/embeddinggemma-300m (dense_from= in Python); --allow-missing-dense goes without",
    )  # fmt: skip


def lacks_dense_layers(subject: Subject) -> bool:
    """Whether a model has fewer dense layers than its kind; a compiled one has none to count."""
    found, wanted = _count(subject)
    return subject.head is not None and found < wanted


def _count(subject: Subject) -> tuple[int, int]:
    """How many dense layers there are, and how many there should be."""
    wanted = subject.kin.dense if subject.kin else None
    found = sum(isinstance(module, Dense) for module in subject.head or ())
    return found, DENSE_LAYERS.get(subject.model_type, 0) if wanted is None else wanted


def config(subject: Subject) -> Finding:
    """The values of config.json are those of the model it is, or was fine-tuned from."""
    name, kin = "config", subject.kin
    if kin is None or not kin.config or subject.config is None:
        return Finding(name, "ok", "the catalog has no values to compare with")
    have = subject.config
    different = {key: value for key, value in kin.config.items() if getattr(have, key, None) != value}
    if subject.window is not None:
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
    chosen = "" if subject.window is None else f"; the window of {subject.window} is the caller's choice"
    return Finding(name, "ok", f"the values are those of {kin.id}{chosen}")
