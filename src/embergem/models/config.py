"""Reading config.json: typed, with errors that name the field."""

from dataclasses import dataclass
from typing import Any, TypeVar

from embergem.errors import CorruptCheckpoint, UnsupportedModel

T = TypeVar("T")


@dataclass(slots=True)
class Fields:
    """A view of config.json."""

    config: dict[str, Any]

    def get(self, name: str, kind: type[T], default: T) -> T:
        """Return field `name`, or `default` where it is absent or null."""
        value = self.config.get(name)
        if value is None:
            return default
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise CorruptCheckpoint(f"config.json: {name} should be of type {kind.__name__}, found {value!r}")
        if isinstance(value, int | float) and kind is not bool and value < 0:
            raise CorruptCheckpoint(f"config.json: {name} is negative: {value!r}")
        return value

    def first(self, *names: str) -> int:
        """Return the first of the fields `names` that is there: a size under the names that formats give it."""
        return self.need(next((name for name in names if self.config.get(name) is not None), names[0]), int)

    def need(self, name: str, kind: type[T]) -> T:
        """Return field `name`, which must be there."""
        if self.config.get(name) is None:
            raise CorruptCheckpoint(f"config.json: {name} is missing")
        value = self.get(name, kind, kind())
        if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
            raise CorruptCheckpoint(f"config.json: {name} must be greater than 0, found {value!r}")
        return value

    def expect(self, name: str, *allowed: Any) -> None:
        """Refuse the checkpoint when field `name` is present with a value this family was not written for."""
        value = self.config.get(name, allowed[0])
        if value not in allowed:
            names = " or ".join(repr(a) for a in allowed)
            raise UnsupportedModel(f"config.json: {name} is {value!r}; embergem supports {names} here")


def fields_of(config: dict[str, Any]) -> Fields:
    """Wrap a parsed config.json."""
    return Fields(config)


def rope_thetas(read: Fields, *, full: tuple[str, float], sliding: tuple[str, float]) -> dict[str, float]:
    """Return the rotary base of each layer kind, in the new form (rope_parameters) or the old one (two fields)."""
    new = read.get("rope_parameters", dict, {})
    thetas = {}
    for kind, (old_name, default) in {"full_attention": full, "sliding_attention": sliding}.items():
        parameters = Fields(new.get(kind, new))
        parameters.expect("rope_type", "default", None)
        thetas[kind] = parameters.get("rope_theta", float, read.get(old_name, float, default))
    return thetas


def rope_theta(read: Fields, old_name: str = "rope_theta", *, default: float) -> float:
    """Return the rotary base of a model with one for all layers, in the new form or the old one."""
    parameters = Fields(read.get("rope_parameters", dict, {}))
    parameters.expect("rope_type", "default", None)
    return parameters.get("rope_theta", float, read.get(old_name, float, default))


def layer_kinds(read: Fields, pattern: int, *, first: int) -> tuple[bool, ...]:
    """Return for each layer whether it attends to the full row: from `layer_types`, else every `pattern`-th."""
    layers = read.need("num_hidden_layers", int)
    kinds = read.get("layer_types", list, [])
    if not kinds:
        return tuple(layer % pattern == first for layer in range(layers))
    if len(kinds) != layers:
        raise CorruptCheckpoint(f"config.json: layer_types has {len(kinds)} entries for {layers} layers")
    if unknown := set(kinds) - {"full_attention", "sliding_attention"}:
        raise UnsupportedModel(f"config.json: layer_types names {sorted(unknown)}, which embergem does not have")
    return tuple(kind == "full_attention" for kind in kinds)
