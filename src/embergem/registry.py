"""Several models under their names."""

from collections.abc import Mapping
from types import TracebackType

from embergem.engine import Engine
from embergem.errors import UnknownModel

DEFAULT = "default"


class Registry:
    """Engines by name; "default" is one of them. Closing it closes them all."""

    def __init__(self, engines: Mapping[str, Engine], default: str) -> None:
        if default not in engines:
            raise UnknownModel(f"the default model {default!r} is not one of: {', '.join(engines)}")
        self._engines = dict(engines)
        self.default = default

    def get(self, name: str) -> Engine:
        """Return the engine called `name`.

        Raises:
            UnknownModel: There is none; the message lists the names there are.
        """
        engine = self._engines.get(self.default if name == DEFAULT else name)
        if engine is None:
            known = ", ".join([DEFAULT, *self._engines])
            raise UnknownModel(f"the model {name!r} is not served here. There is: {known}", param="model")
        return engine

    def names(self) -> list[str]:
        """Ids of all models."""
        return list(self._engines)

    def close(self) -> None:
        """Close every engine."""
        for engine in self._engines.values():
            engine.close()

    def __enter__(self) -> "Registry":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
