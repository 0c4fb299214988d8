"""Typed access to the fields of config.json, with errors that name the field, and readers that families share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from embergem.errors import CorruptCheckpoint, UnsupportedModel
from embergem.models.conditions import RecordingConfig

T = TypeVar("T")


@dataclass(slots=True)
class Fields:
    """The fields of config.json, or of an object in it. With a `RecordingConfig`, each access is recorded."""

    config: dict[str, Any]

    def get(self, name: str, kind: type[T], default: T) -> T:
        """Return field `name`, or `default` where the field is absent or null.

        Raises:
            CorruptCheckpoint: The field is not of type `kind`, or is a negative number.
        """
        value = self._value(name)
        if value is None:
            self._record(name, default)
            return default
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        elif kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)  # some libraries write sizes as floats
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise CorruptCheckpoint(f"config.json: {name} should be of type {kind.__name__}, found {value!r}")
        if isinstance(value, int | float) and kind is not bool and value < 0:
            raise CorruptCheckpoint(f"config.json: {name} is negative: {value!r}")
        self._record(name, default, value)
        return cast("T", self._inside(name)) if isinstance(value, dict) else value

    def need(self, name: str, kind: type[T]) -> T:
        """Return field `name`, which must be present; a number must be greater than 0.

        Raises:
            CorruptCheckpoint: It is absent, of another type, or not greater than 0.
        """
        if self._value(name) is None:
            raise CorruptCheckpoint(f"config.json: {name} is missing")
        value = self.get(name, kind, kind())
        if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
            raise CorruptCheckpoint(f"config.json: {name} must be greater than 0, found {value!r}")
        return value

    def first(self, *names: str) -> int:
        """Return the size in the fields `names`: formats give one size different names, and some files have several.

        Raises:
            CorruptCheckpoint: None of them is present, or two contradict each other.
        """
        found = {name: self.need(name, int) for name in names if self._value(name) is not None}
        if not found:
            return self.need(names[0], int)
        if len(set(found.values())) > 1:
            stated = " and ".join(f"{name} is {size}" for name, size in found.items())
            raise CorruptCheckpoint(f"config.json: {stated}, and both mean the same size. Remove the wrong one.")
        size = next(iter(found.values()))
        for name in names:
            if name not in found:
                self.expect(name, size, None)
        return size

    def choice(self, name: str, results: Mapping[str, T], *, default: str) -> T:
        """Return the result for the value of field `name`; an absent field has the value `default`.

        Raises:
            UnsupportedModel: The value is none of the keys of `results`.
        """
        value = dict.get(self.config, name, default)
        if not isinstance(value, str) or value not in results:
            raise _unsupported(name, value, tuple(results))
        if isinstance(self.config, RecordingConfig):
            equal = [other for other, result in results.items() if result == results[value]]
            self.config.record(name, *equal, absent=default in equal)
        return results[value]

    def expect(self, name: str, *allowed: Any, reason: str = "") -> None:
        """Refuse the checkpoint if field `name` is present and its value is not one of `allowed`.

        Raises:
            UnsupportedModel: The value is another one. `reason` is part of the message.
        """
        value = dict.get(self.config, name, allowed[0])
        if value not in allowed:
            raise _unsupported(name, value, allowed, reason)
        if isinstance(self.config, RecordingConfig):
            self.config.record(name, *allowed, absent=True)

    def ignore(self, name: str) -> None:
        """Accept field `name` with any value, because it changes nothing."""
        if isinstance(self.config, RecordingConfig):
            self.config.record_any(name)

    def _value(self, name: str) -> Any:
        return dict.get(self.config, name)  # not `self.config.get`: a `RecordingConfig` would record the exact value

    def _record(self, name: str, default: Any, value: Any = None) -> None:
        if isinstance(self.config, RecordingConfig):
            self.config.record_read(name, default, value)

    def _inside(self, name: str) -> dict[str, Any]:
        return self.config.inside(name) if isinstance(self.config, RecordingConfig) else self.config[name]


def fields_of(config: dict[str, Any]) -> Fields:
    """Return the fields of a parsed config.json, or of an object in it.

    Raises:
        CorruptCheckpoint: `config` is not an object.
    """
    if not isinstance(config, dict):
        raise CorruptCheckpoint(f"config.json: expected an object, found {config!r}")
    return Fields(config)


def causal(fields: Fields) -> bool:
    """Return whether a decoder attends to earlier tokens only.

    `is_causal: false` (transformers) and `use_bidirectional_attention: true` (text-embeddings-inference) both mean
    that it attends in both directions.

    Raises:
        UnsupportedModel: The two contradict each other.
        CorruptCheckpoint: One of them is not a boolean.
    """
    names = ("is_causal", "use_bidirectional_attention")
    values = tuple(dict.get(fields.config, name) for name in names)  # recorded below, when the result is known
    for name, value in zip(names, values, strict=True):
        if value is not None and not isinstance(value, bool):
            raise CorruptCheckpoint(f"config.json: {name} should be of type bool, found {value!r}")
    is_causal, bidirectional = values
    if is_causal is not None and is_causal is bidirectional:
        raise UnsupportedModel(
            f"config.json: is_causal and use_bidirectional_attention are both {is_causal}, so they contradict each "
            "other. Remove the one that the model was not trained with."
        )
    result = is_causal is not False and not bidirectional
    if isinstance(fields.config, RecordingConfig):
        for name, value, usual in zip(names, values, (True, False), strict=True):
            equal = (None, usual) if result else (value,)
            fields.config.record(name, *equal, absent=None in equal)
    return result


def full_attention_layers(fields: Fields, pattern: int, *, first: int) -> tuple[bool, ...]:
    """Return for each layer whether it attends to the whole row.

    `layer_types` of config.json decides. Without it, every `pattern`-th layer does, beginning with layer `first`.

    Raises:
        CorruptCheckpoint: `pattern` is 0, or `layer_types` has another number of layers.
        UnsupportedModel: `layer_types` names a kind that embergem does not have.
    """
    layers = fields.need("num_hidden_layers", int)
    kinds = fields.get("layer_types", list, [])
    if not kinds:
        if pattern < 1:
            raise CorruptCheckpoint("config.json: full attention in every 0th layer; the number must be greater than 0")
        return tuple(layer % pattern == first for layer in range(layers))
    if len(kinds) != layers:
        raise CorruptCheckpoint(f"config.json: layer_types has {len(kinds)} entries for {layers} layers")
    if unknown := set(kinds) - {"full_attention", "sliding_attention"}:
        raise UnsupportedModel(f"config.json: layer_types names {sorted(unknown)}, which embergem does not have")
    return tuple(kind == "full_attention" for kind in kinds)


def require_full_attention(fields: Fields) -> None:
    """Refuse a config whose `layer_types` names a layer that does not attend to the whole row.

    Raises:
        UnsupportedModel: `layer_types` names such a layer.
    """
    if not all(full_attention_layers(fields, 1, first=0)):
        raise UnsupportedModel(
            "config.json: layer_types names sliding_attention, which embergem does not have for this family "
            "(it limits attention to a window)"
        )


def _unsupported(name: str, value: Any, allowed: tuple[Any, ...], reason: str = "") -> UnsupportedModel:
    values = " or ".join(repr(one) for one in allowed)
    message = f"config.json: {name} is {value!r}; embergem supports {values} here"
    return UnsupportedModel(f"{message} ({reason})" if reason else message)
