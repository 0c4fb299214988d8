"""Reads modules.json, the chain of modules that sentence-transformers runs, and the config of each module of the head.

The first module is the body (a transformer or a table of static embeddings); the rest is the head
(`embergem.models.head`). Both formats of modules.json are read. A setting of a module is either understood or refused:
skipping one would give vectors that look right and are wrong.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from embergem.checkpoint.files import parse_json, read_bytes, read_object, read_optional_object, shortened
from embergem.errors import CorruptCheckpoint, UnsupportedModel
from embergem.models.head import Dense, Module, Normalize, Pooling
from embergem.ops import Activation
from embergem.ops import Pooling as PoolingMode

MODULES_FILE = "modules.json"

BODY_KINDS = ("Transformer", "StaticEmbedding")
"""Kinds of the first module."""

_POOLING: dict[str, PoolingMode] = {"mean": "mean", "cls": "cls", "lasttoken": "last", "max": "max"}
_OLD_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS: dict[str, Activation | None] = {
    "Identity": None,
    "Tanh": "tanh",
    "ReLU": "relu",
    "GELU": "gelu_erf",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
}


@dataclass(frozen=True, slots=True)
class ModuleEntry:
    """One entry of modules.json: the kind of the module, and the directory of its files, relative ("" is the root)."""

    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class ModuleChain:
    """The modules of a checkpoint: the directory of the transformer, relative to the root, and the head."""

    transformer: str
    head: tuple[Module, ...]


def parse_modules(data: bytes, where: str | Path) -> tuple[ModuleEntry, ...]:
    """Parse the text of modules.json. The first entry is the body. `where` names the origin of the text in errors.

    Raises:
        CorruptCheckpoint: The text is not a list of modules, or a path leaves the checkpoint's directory.
        UnsupportedModel: The text names a module that embergem does not have, or an order that makes no embedding.
    """
    rows = parse_json(data, where)
    if not isinstance(rows, list) or not rows:
        raise CorruptCheckpoint(
            f"{where} should hold a list of modules, found {shortened(rows)}. Download or save the model again."
        )
    entries = tuple(_parse_entry(row, where) for row in rows)
    kinds = [entry.kind for entry in entries]
    if kinds[0] == "StaticEmbedding":
        if kinds not in (["StaticEmbedding"], ["StaticEmbedding", "Normalize"]):
            raise UnsupportedModel(
                f"{where} lists the modules {', '.join(kinds)}. After StaticEmbedding embergem only runs Normalize."
            )
        return entries
    if kinds[0] != "Transformer" or kinds.count("Transformer") > 1 or kinds[1:2] != ["Pooling"]:
        raise UnsupportedModel(
            f"{where} lists the modules {', '.join(kinds)}. embergem runs one Transformer, then Pooling, then any "
            "number of Dense and Normalize."
        )
    if kinds.count("Pooling") > 1:
        raise UnsupportedModel(f"{where} lists Pooling {kinds.count('Pooling')} times. embergem runs it once.")
    return entries


def read_modules(root: Path) -> ModuleChain:
    """Read modules.json of the checkpoint at `root`, and the config of every module of the head.

    Raises:
        CorruptCheckpoint: A file is missing, damaged or contradicts another.
        UnsupportedModel: A module or a setting that embergem does not have.
    """
    file = root / MODULES_FILE
    if not file.exists():
        raise CorruptCheckpoint(
            f"{root} has no {MODULES_FILE}, which says how token vectors become one embedding. embergem reads models "
            "that sentence-transformers saved. Load this model with sentence-transformers and save it first."
        )
    entries = parse_modules(read_bytes(file), file)
    if entries[0].kind == "StaticEmbedding":
        raise UnsupportedModel(
            f"{root} holds a StaticEmbedding without the config.json of Model2Vec, which says how texts are read. "
            "Save the model with model2vec (StaticModel.from_sentence_transformers and save_pretrained), which writes "
            "that file."
        )
    head: list[Module] = []
    features: int | None = None
    for entry in entries:
        directory = _directory_inside(root, entry.path, file)
        if entry.kind != "Transformer":
            module, features = _HEAD_READERS[entry.kind](directory, entry.path, features)
            head.append(module)
    return ModuleChain(transformer=entries[0].path, head=tuple(head))


def _parse_entry(row: Any, where: str | Path) -> ModuleEntry:
    if not isinstance(row, dict) or not isinstance(row.get("type"), str) or not isinstance(row.get("path"), str):
        raise CorruptCheckpoint(
            f'{where}: each module needs a "type" and a "path", both text, found {shortened(row)}. Download or save '
            "the model again."
        )
    package, _, kind = row["type"].partition(".")
    kind = kind.rpartition(".")[2]
    if package != "sentence_transformers" or kind not in (*BODY_KINDS, *_HEAD_READERS):
        raise UnsupportedModel(
            f"{where} names the module {row['type']!r}, which embergem does not have. It has sentence-transformers' "
            "Transformer, StaticEmbedding, Pooling, Dense and Normalize, and never runs code that comes with a model."
        )
    path = row["path"]
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path or PureWindowsPath(path).drive:
        raise CorruptCheckpoint(f"{where}: the path {path!r} leaves the checkpoint's directory, so it is refused.")
    return ModuleEntry(kind, "" if pure == PurePosixPath() else pure.as_posix())


def _directory_inside(root: Path, path: str, where: Path) -> Path:
    """Return `root / path`; refuse a directory that is a link out of `root`.

    Only directories are checked: in the hub library's cache every file is a link out of the snapshot's directory.
    """
    directory = root / path
    if not Path(os.path.realpath(directory)).is_relative_to(os.path.realpath(root)):
        raise CorruptCheckpoint(f"{where}: the path {path!r} is a link out of the checkpoint's directory; refused.")
    return directory


def _read_pooling(directory: Path, path: str, features: int | None) -> tuple[Module, int | None]:
    file = directory / "config.json"
    config = read_object(file)
    if not _flag(config, "include_prompt", True, file):
        raise UnsupportedModel(
            f"{file}: include_prompt is false. embergem pools over all tokens, those of the prompt included."
        )
    if "pooling_mode" in config:
        modes = config["pooling_mode"]
        modes = modes if isinstance(modes, list) else [modes]
    else:
        modes = [mode for key, mode in _OLD_POOLING.items() if _flag(config, key, False, file)]
        unknown = [key for key in config if key.startswith("pooling_mode_") and key not in _OLD_POOLING and config[key]]
        if unknown:
            raise UnsupportedModel(
                f"{file} sets {', '.join(unknown)}, a pooling mode that embergem does not have. It has: "
                f"{', '.join(_POOLING)}."
            )
        modes = modes or ["mean"]  # as sentence-transformers reads a config that chooses none
    if len(modes) != 1:
        raise UnsupportedModel(f"{file} sets the pooling modes {shortened(modes)} together. embergem runs one.")
    mode = modes[0]
    if not isinstance(mode, str) or mode not in _POOLING:
        raise UnsupportedModel(
            f"{file} sets the pooling mode {mode!r}, which embergem does not have. It has: {', '.join(_POOLING)}."
        )
    key = "embedding_dimension" if "embedding_dimension" in config else "word_embedding_dimension"
    return Pooling(_POOLING[mode]), _size(config, key, file)


def _read_dense(directory: Path, path: str, features: int | None) -> tuple[Module, int | None]:
    file = directory / "config.json"
    if not path:
        raise CorruptCheckpoint(
            f"{directory / MODULES_FILE}: a Dense module has no directory. Save the model again so that it gets one."
        )
    config = read_object(file)
    _refuse_other_values(config, file)
    if _flag(config, "use_residual", False, file):
        raise UnsupportedModel(f"{file}: use_residual is true, which embergem does not have.")
    in_features, out_features = _size(config, "in_features", file), _size(config, "out_features", file)
    if features is not None and in_features != features:
        raise CorruptCheckpoint(
            f"{file}: in_features is {in_features}, but the module before it gives {features}. Download or save the "
            "model again."
        )
    dense = Dense(
        weights=path,
        in_features=in_features,
        out_features=out_features,
        bias=_flag(config, "bias", True, file),
        activation=_activation(config, file),
    )
    return dense, out_features


def _read_normalize(directory: Path, path: str, features: int | None) -> tuple[Module, int | None]:
    if path:  # newer versions of sentence-transformers save a config, older ones keep no directory
        _refuse_other_values(read_optional_object(directory / "config.json"), directory / "config.json")
    return Normalize(), features


_HEAD_READERS: dict[str, Callable[[Path, str, int | None], tuple[Module, int | None]]] = {
    "Pooling": _read_pooling,
    "Dense": _read_dense,
    "Normalize": _read_normalize,
}
"""Kind -> reader(directory, path, input features or None) -> (module, output features or None)."""


def _activation(config: dict[str, Any], file: Path) -> Activation | None:
    name = config.get("activation_function", "torch.nn.modules.activation.Tanh")  # sentence-transformers' default
    if name is None:
        return None
    package, _, last = str(name).rpartition(".")
    if package.partition(".")[0] != "torch" or last not in _ACTIVATIONS:
        raise UnsupportedModel(
            f"{file}: activation_function is {name!r}, which embergem does not have. It has torch's "
            f"{', '.join(_ACTIVATIONS)}."
        )
    return _ACTIVATIONS[last]


def _refuse_other_values(config: dict[str, Any], file: Path) -> None:
    """Refuse a module that reads or writes another value than the sentence embedding."""
    for key in ("module_input_name", "module_output_name"):
        if config.get(key, "sentence_embedding") not in ("sentence_embedding", None):
            raise UnsupportedModel(
                f"{file}: {key} is {config[key]!r}. embergem runs modules on sentence_embedding only."
            )


def _flag(config: dict[str, Any], key: str, default: bool, file: Path) -> bool:
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise CorruptCheckpoint(f"{file}: {key} should be true or false, found {value!r}. Correct the file.")
    return value


def _size(config: dict[str, Any], key: str, file: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CorruptCheckpoint(f"{file}: {key} should be a whole number above 0, found {value!r}. Correct the file.")
    return value
