"""A config.json that notes what is asked of it: the conditions under which another one gives the same model.

Reading a config is a function of the fields it looks at. So a second config.json that has the same values there (or
others that were allowed, or none where the default is the same) describes the same model and may have its program.
That is how a process without Python knows which program a checkpoint needs: it compares fields and knows no family.
"""

import json
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any


class RecordingConfig(dict[str, Any]):
    """A parsed config.json, or an object in one, with notes in `conditions`.

    A condition is `{"path": [...], "values": [...], "absent": bool}`, the field at `path` has one of these values or
    may be absent, or `{"path": [...], "object": true}`, it is an object.
    """

    def __init__(self, config: dict[str, Any], path: tuple[str, ...] = (), notes: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self._path = path
        self._notes: dict[str, Any] = {} if notes is None else notes

    @property
    def conditions(self) -> list[dict[str, Any]]:
        """What was noted so far, in the order of asking."""
        return list(self._notes.values())

    def note(self, name: str, *values: Any, absent: bool) -> None:
        """Note that any of `values` in field `name`, or its absence, would have done as well."""
        self._add({"path": [*self._path, name], "values": list(values), "absent": absent})

    def inside(self, name: str) -> "RecordingConfig":
        """Return the object in field `name`; what is asked of it is noted here."""
        return RecordingConfig(dict.__getitem__(self, name), (*self._path, name), self._notes)

    def note_answer(self, name: str, default: Any, value: Any) -> None:
        """Note that field `name` was read as `value`, or as `default` because it is None."""
        if isinstance(value, dict):
            self._add({"path": [*self._path, name], "object": True})
        elif value is None:  # a default that is an object stands for other fields, which are asked for by themselves
            self.note(name, None, *(() if isinstance(default, dict) else (default,)), absent=True)
        elif value == default:
            self.note(name, value, None, absent=True)
        else:
            self.note(name, value, absent=False)

    def _add(self, condition: dict[str, Any]) -> None:
        self._notes.setdefault(json.dumps(condition), condition)

    def _exactly(self, name: str) -> None:
        self.note(name, dict.get(self, name), absent=name not in self._names())

    def _whole(self) -> None:
        self._add({"path": list(self._path), "values": [dict(dict.items(self))], "absent": False})

    def _names(self) -> KeysView[str]:
        return dict.keys(self)

    def __getitem__(self, name: str) -> Any:
        self._exactly(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Like `dict.get`."""
        self._exactly(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self._exactly(str(name))
        return super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        self._whole()
        return super().__iter__()

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        """Like `dict.keys`."""
        self._whole()
        return dict(dict.items(self)).keys()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """Like `dict.values`."""
        self._whole()
        return dict(dict.items(self)).values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """Like `dict.items`."""
        self._whole()
        return dict(dict.items(self)).items()
