"""Reading config.json: typed, with errors that name the field."""

from dataclasses import dataclass
from typing import Any, TypeVar, cast

from embergem.errors import CorruptCheckpoint, UnsupportedModel
from embergem.models.conditions import RecordingConfig

T = TypeVar("T")


@dataclass(slots=True)
class Fields:
    """A view of config.json."""

    config: dict[str, Any]

    def get(self, name: str, kind: type[T], default: T) -> T:
        """Return field `name`, or `default` where it is absent or null."""
        value = self._value(name)
        if value is None:
            self._note(name, default)
            return default
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise CorruptCheckpoint(f"config.json: {name} should be of type {kind.__name__}, found {value!r}")
        if isinstance(value, int | float) and kind is not bool and value < 0:
            raise CorruptCheckpoint(f"config.json: {name} is negative: {value!r}")
        self._note(name, default, value)
        return cast("T", self._inside(name)) if isinstance(value, dict) else value

    def first(self, *names: str) -> int:
        """Return the first of the fields `names` that is there: a size under the names that formats give it."""
        for name in names:
            if self._value(name) is not None:
                return self.need(name, int)
            self._note(name, {})
        return self.need(names[0], int)

    def need(self, name: str, kind: type[T]) -> T:
        """Return field `name`, which must be there."""
        if self._value(name) is None:
            raise CorruptCheckpoint(f"config.json: {name} is missing")
        value = self.get(name, kind, kind())
        if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
            raise CorruptCheckpoint(f"config.json: {name} must be greater than 0, found {value!r}")
        return value

    def expect(self, name: str, *allowed: Any) -> None:
        """Refuse the checkpoint when field `name` is present with a value this family was not written for."""
        value = dict.get(self.config, name, allowed[0])
        if value not in allowed:
            names = " or ".join(repr(a) for a in allowed)
            raise UnsupportedModel(f"config.json: {name} is {value!r}; embergem supports {names} here")
        if isinstance(self.config, RecordingConfig):
            self.config.note(name, *allowed, absent=True)

    def _value(self, name: str) -> Any:
        return dict.get(self.config, name)  # a `RecordingConfig` has notes of its own for what is read without `Fields`

    def _note(self, name: str, default: Any, value: Any = None) -> None:
        if isinstance(self.config, RecordingConfig):
            self.config.note_answer(name, default, value)

    def _inside(self, name: str) -> dict[str, Any]:
        return self.config.inside(name) if isinstance(self.config, RecordingConfig) else self.config[name]


def fields_of(config: dict[str, Any]) -> Fields:
    """Wrap a parsed config.json, or an object in one."""
    if not isinstance(config, dict):
        raise CorruptCheckpoint(f"config.json: an object is expected where {config!r} stands")
    return Fields(config)


def rope_thetas(read: Fields, *, full: tuple[str, float], sliding: tuple[str, float]) -> dict[str, float]:
    """Return the rotary base of each layer kind, in the new form (rope_parameters) or the old one (two fields)."""
    new = fields_of(read.get("rope_parameters", dict, {}))
    thetas = {}
    for kind, (old_name, default) in {"full_attention": full, "sliding_attention": sliding}.items():
        parameters = fields_of(new.get(kind, dict, new.config))
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
