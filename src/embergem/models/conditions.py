"""A config.json that records which fields were read: the conditions under which another one describes the same model.

The result of reading a config depends only on the fields that were read. A second config.json therefore describes the
same model, and can use its program, if each of these fields has the same value, or another value that would have given
the same result, or is absent where its default is that value. A process without Python finds the program of a
checkpoint in this way: it compares fields and needs no knowledge of model families.
"""

import json
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any


class RecordingConfig(dict[str, Any]):
    """A parsed config.json, or an object in it, that records each access in `conditions`.

    A condition is one of:

    - `{"path": [...], "values": [...], "absent": bool}`: the field at `path` has one of these values; with `absent`, it
      may also be absent.
    - `{"path": [...], "object": true}`: the field at `path` is an object.
    - `{"path": [...], "any": true}`: the field at `path` changes nothing. The condition always holds; it says that the
      field is known.

    `Fields` records through `record` and `record_read`, which know the values that would have given the same result.
    Any other access, such as `config["x"]` or iteration, records the exact value that was seen.
    """

    def __init__(self, config: dict[str, Any], path: tuple[str, ...] = (), found: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self._path = path
        self._conditions: dict[str, Any] = {} if found is None else found

    @property
    def conditions(self) -> list[dict[str, Any]]:
        """The conditions recorded so far, in the order of the first access."""
        return list(self._conditions.values())

    def record(self, name: str, *values: Any, absent: bool) -> None:
        """Record that field `name` may have any of `values`, or with `absent` be absent."""
        self._add({"path": [*self._path, name], "values": list(values), "absent": absent})

    def record_any(self, name: str) -> None:
        """Record that field `name` may have any value."""
        self._add({"path": [*self._path, name], "any": True})

    def record_read(self, name: str, default: Any, value: Any) -> None:
        """Record that field `name` was read as `value`, or as `default` because `value` is None."""
        if isinstance(value, dict):
            self._add({"path": [*self._path, name], "object": True})
        elif value is None:  # a default that is an object stands for other fields, and each of them is recorded itself
            self.record(name, None, *(() if isinstance(default, dict) else (default,)), absent=True)
        elif value == default:
            self.record(name, value, None, absent=True)
        else:
            self.record(name, value, absent=False)

    def inside(self, name: str) -> "RecordingConfig":
        """Return the object in field `name`; accesses to it are recorded here."""
        return RecordingConfig(dict.__getitem__(self, name), (*self._path, name), self._conditions)

    def _add(self, condition: dict[str, Any]) -> None:
        self._conditions.setdefault(json.dumps(condition), condition)

    def _record_exact(self, name: str) -> None:
        self.record(name, dict.get(self, name), absent=name not in dict.keys(self))

    def _record_all(self) -> None:
        self._add({"path": list(self._path), "values": [dict(dict.items(self))], "absent": False})

    def __getitem__(self, name: str) -> Any:
        self._record_exact(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return field `name` as `dict.get` does."""
        self._record_exact(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self._record_exact(str(name))
        return super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        self._record_all()
        return super().__iter__()

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        """Return the names as `dict.keys` does."""
        self._record_all()
        return dict(dict.items(self)).keys()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """Return the values as `dict.values` does."""
        self._record_all()
        return dict(dict.items(self)).values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """Return the items as `dict.items` does."""
        self._record_all()
        return dict(dict.items(self)).items()
