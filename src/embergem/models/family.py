"""The declaration of a model family, and the scan that finds the declarations of all families.

A family is one module of this package. The module declares what is true of the arithmetic, whatever the checkpoint, as
`FAMILY = Family(...)`, and has two functions, or names the family whose functions it uses (`arithmetic=`):

- `read_config(fields: Fields) -> Config` reads config.json. `Config` is a frozen dataclass with at least `vocab_size`.
  Further names have a meaning elsewhere: `places`, the tokens that a position table has rows for, and `radius`, the
  tokens that a sliding window reaches on each side.
- `forward(ops: Ops, config: Config, weights: Weights, batch: Batch) -> Value` returns the last hidden states (t, f).

What belongs to a checkpoint comes from its files or from the catalog: prompts, sizes of shortened vectors, limit, head.

`families` reads declarations from the source text and imports no family, so that loading a model imports its family
only. The arguments of `Family(...)` are therefore literals: strings, numbers, tuples, `Inert(...)` and `Part(...)`.

A field of config.json that a family neither reads nor declares inert is refused (`embergem.models.unread`).

Families in another directory: append the directory to `embergem.models.__path__`.
"""

import ast
import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Literal

_PACKAGE = "embergem.models"
_DECLARATION = re.compile(r"^FAMILY = (Family\(\n.*?^\))$", re.MULTILINE | re.DOTALL)


ANY: Final = "any"
"""`Inert.values` of a field that changes nothing, whatever its value."""


@dataclass(frozen=True, slots=True)
class Inert:
    """A field of config.json that leaves the arithmetic as it is while it is absent or has one of `values`.

    inert.json lists the fields that every family ignores. Declare what is true of one family only.
    """

    field: str
    values: tuple[Any, ...] | Literal["any"]
    reason: str
    """What the field does, so that a reader can see why another value is refused."""


@dataclass(frozen=True, slots=True)
class Part:
    """The checkpoints of another family's `model_type` whose `field` is absent or has one of `values`."""

    model_type: str
    field: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What is true of a model family, whatever the checkpoint.

    Attributes:
        title: Name in the documentation.
        checkpoints: Well-known published models, for the documentation.
        differs: How the family differs from the others, for the documentation.
        model_types: Values of `model_type` in config.json. The engine reports the value that the checkpoint has.
        part: Checkpoints that have the `model_type` of another family in config.json and are of this one.
        spellings: Pairs of another value of `model_type` and the entry of `model_types` that it means.
        arch: Names that `arch=` accepts for any of `model_types`. Each model type is a name for itself.
        arithmetic: The module of the family whose `read_config` and `forward` this family uses, with its `fields` and
            `inert`. None: this family's own module.
        nested: Field of config.json that holds the family's fields as an object, where it is present.
        fields: Fields of config.json that `read_config` reads.
        inert: Fields of config.json that are accepted only with the values for which they change nothing.
        window: Field of config.json that holds the sliding window. None: the family has none.
        prefixes: Prefixes that a checkpoint may put before the tensor names that `forward` uses.
        special_tokens: Tokens that stand around every text. None of them: texts get no special tokens, and tokens that
            the tokenizer does not know are dropped, as Model2Vec does.
        keep_unknown: A family without special tokens keeps the tokens that the tokenizer does not know.
        prompts: Set of prompts in crates/text/src/prompts.json for checkpoints that bring no prompts.
    """

    title: str
    checkpoints: str
    differs: str
    model_types: tuple[str, ...]
    special_tokens: tuple[Literal["opening", "closing"], ...]
    spellings: tuple[tuple[str, str], ...] = ()
    arch: tuple[str, ...] = ()
    part: Part | None = None
    arithmetic: str | None = None
    nested: str | None = None
    fields: tuple[str, ...] = ()
    inert: tuple[Inert, ...] = ()
    window: str | None = None
    prefixes: tuple[str, ...] = ()
    prompts: str | None = None
    keep_unknown: bool = False

    @property
    def arch_names(self) -> tuple[str, ...]:
        """The names for `arch=` that an error message lists."""
        return self.arch or self.model_types


def families() -> Mapping[str, Family]:
    """Return every family by the name of its module, in name order.

    Raises:
        ValueError: A declaration is not readable, or two families declare the same name; the message names the module.
    """
    # The package is in sys.modules: importing this module imported it. Its path may have been extended since.
    return _scan(tuple(sys.modules[_PACKAGE].__path__))


def find(model_type: object) -> tuple[str, Family] | None:
    """Return the module and the declaration of the family that has this `model_type`, in its canonical spelling."""
    return next(((name, family) for name, family in families().items() if model_type in family.model_types), None)


def canonical_model_type(model_type: Any) -> Any:
    """Return the one spelling that embergem uses for a `model_type` of config.json; unknown values are returned as is.

    >>> canonical_model_type("embedding_gemma2_text")
    'embedding_gemma2'
    """
    spellings = {other: meant for family in families().values() for other, meant in family.spellings}
    return spellings.get(model_type, model_type) if isinstance(model_type, str) else model_type


def model_type_of(config: dict[str, Any]) -> Any:
    """Return the `model_type` of a parsed config.json in embergem's spelling: that of the family it belongs to.

    >>> model_type_of({"model_type": "gemma3_text", "use_bidirectional_attention": True})
    'gemma3_text'
    >>> model_type_of({"model_type": "gemma3_text"})
    'gemma3_decoder'
    """
    model_type = canonical_model_type(config.get("model_type"))
    for family in families().values():
        part = family.part
        # `dict.get`, because a `RecordingConfig` would record the value. `read_config` reads the field and records it.
        if part and part.model_type == model_type and dict.get(config, part.field) in part.values:
            return family.model_types[0]
    return model_type


def declaration(source: str, where: str) -> Family | None:
    """Return what the source of a module declares as FAMILY, or None if it declares no family.

    Raises:
        ValueError: FAMILY is not `Family(...)` with literal arguments; the message begins with `where`.
    """
    found = _DECLARATION.search(source)
    if found is None:
        if re.search(r"^FAMILY\b", source, re.MULTILINE):
            raise ValueError(f"{where}: write FAMILY = Family(...) with one argument a line, as ruff formats it")
        return None
    try:
        call = ast.parse(found[1], mode="eval").body
        declared = _literal(call)
    except (SyntaxError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: the arguments of FAMILY = Family(...) must be literals: {error}") from error
    assert isinstance(declared, Family)
    return declared


def _literal(node: ast.expr) -> Any:
    """Evaluate a literal that may contain `Family(...)`, `Inert(...)` and `Part(...)`."""
    match node:
        case ast.Call(func=ast.Name(id="Family" | "Inert" | "Part" as name), args=arguments, keywords=keywords):
            made = {"Family": Family, "Inert": Inert, "Part": Part}[name]
            return made(*map(_literal, arguments), **{str(k.arg): _literal(k.value) for k in keywords})
        case ast.Tuple(elts=elements):
            return tuple(map(_literal, elements))
        case _:
            return ast.literal_eval(node)


@lru_cache(maxsize=8)
def _scan(path: tuple[str, ...]) -> Mapping[str, Family]:
    declared = {}
    for module in sorted(pkgutil.iter_modules(path), key=lambda module: module.name):
        name = f"{_PACKAGE}.{module.name}"
        source = _source(module, name)
        # Only an import finds the declaration where the package was installed without its sources.
        family = declaration(source, name) if source else getattr(importlib.import_module(name), "FAMILY", None)
        if family is not None:
            declared[module.name] = family
    _require_unique_names(declared)
    return MappingProxyType({name: _with_arithmetic(family, declared) for name, family in declared.items()})


def _source(module: pkgutil.ModuleInfo, name: str) -> str | None:
    """Return the source text of a module; None if there is none."""
    spec = module.module_finder.find_spec(name, None)
    get_source: Callable[[str], str | None] = getattr(spec and spec.loader, "get_source", lambda _: None)
    return get_source(name)


def _require_unique_names(declared: Mapping[str, Family]) -> None:
    owners: dict[str, str] = {}
    for module, family in declared.items():
        for name in {*family.model_types, *family.arch, *(other for other, _ in family.spellings)}:
            if owners.setdefault(name, module) != module:
                raise ValueError(f"{_PACKAGE}.{owners[name]} and {_PACKAGE}.{module} both declare the name {name!r}")


def _with_arithmetic(family: Family, declared: Mapping[str, Family]) -> Family:
    """Return `family` with the fields of the family whose functions it uses."""
    if family.arithmetic is None:
        return family
    other = declared[family.arithmetic]
    return replace(family, fields=other.fields + family.fields, inert=other.inert + family.inert)
