"""Which name stands for which model."""

from embergem.errors import UnknownModel, UnsupportedOption
from embergem.registry.spec import Entry, Spec

DEFAULT = "default"


class Names:
    """Models under their names and aliases; "default" is one of them. A plain class: the registry has the lock.

    Attributes:
        entries: The models by their own names, in the order they were added.
        aliases: Names that other names stand for.
        default: The name that "default" stands for; None when there is no model.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.aliases: dict[str, str] = {}
        self.default: str | None = None

    def add(self, name: str, spec: Spec) -> Entry:
        """Add a model; the first becomes the default.

        Raises:
            UnsupportedOption: A name or alias is taken.
        """
        for wanted in (name, *spec.aliases):
            if wanted == DEFAULT or wanted in self.entries or wanted in self.aliases:
                raise UnsupportedOption(f"the name {wanted!r} is taken; give each model names of its own")
        entry = self.entries[name] = Entry(name, spec)
        self.aliases |= dict.fromkeys(spec.aliases, name)
        if self.default is None:
            self.default = name
        return entry

    def find(self, name: str) -> Entry:
        """Return the model of this name or alias.

        Raises:
            UnknownModel: There is none; the message lists those there are.
        """
        wanted = self.default if name == DEFAULT else self.aliases.get(name, name)
        entry = None if wanted is None else self.entries.get(wanted)
        if entry is None:
            known = ", ".join([DEFAULT, *self.entries, *self.aliases]) if self.entries else "no model at all"
            raise UnknownModel(f"the model {name!r} is not served here. There is: {known}", param="model")
        return entry

    def remove(self, entry: Entry) -> None:
        """Forget a model and its aliases. If it was the default, the first of the others is."""
        self.entries.pop(entry.name, None)
        self.aliases = {alias: name for alias, name in self.aliases.items() if name != entry.name}
        if self.default == entry.name:
            self.default = next(iter(self.entries), None)
