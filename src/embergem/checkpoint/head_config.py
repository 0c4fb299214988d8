"""The config of each module of the head, in the old and the new spelling of sentence-transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from embergem.checkpoint.files import read_object, read_object_if_there, shortened
from embergem.errors import CorruptCheckpoint, UnsupportedModel
from embergem.models.head import Dense, Module, Normalize, Pooling
from embergem.ops import Activation
from embergem.ops import Pooling as PoolingMode

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


def _pooling(directory: Path, path: str, size: int | None) -> tuple[Module, int | None]:
    file = directory / "config.json"
    config = read_object(file)
    if not _flag(config, "include_prompt", True, file):
        raise UnsupportedModel(
            f"{file}: include_prompt is false; embergem pools over all tokens, the prompt's among them"
        )
    if "pooling_mode" in config:
        modes = config["pooling_mode"]
        modes = modes if isinstance(modes, list) else [modes]
    else:
        modes = [mode for key, mode in _OLD_POOLING.items() if _flag(config, key, False, file)]
        unknown = [key for key in config if key.startswith("pooling_mode_") and key not in _OLD_POOLING and config[key]]
        if unknown:
            raise UnsupportedModel(f"{file}: {', '.join(unknown)} is not a pooling mode that embergem has")
        modes = modes or ["mean"]  # as sentence-transformers reads a config that chooses none
    if len(modes) != 1:
        raise UnsupportedModel(f"{file} asks for the pooling modes {shortened(modes)} at once; embergem does one")
    mode = modes[0]
    if not isinstance(mode, str) or mode not in _POOLING:
        raise UnsupportedModel(
            f"{file} asks for the pooling mode {mode!r}, which embergem does not have. It has: {', '.join(_POOLING)}"
        )
    key = "embedding_dimension" if "embedding_dimension" in config else "word_embedding_dimension"
    return Pooling(_POOLING[mode]), _size(config, key, file)


def _dense(directory: Path, path: str, size: int | None) -> tuple[Module, int | None]:
    file = directory / "config.json"
    if not path:
        raise CorruptCheckpoint(f"{directory / 'modules.json'}: a Dense module has no directory of its own")
    config = read_object(file)
    _refuse_rerouting(config, file)
    if _flag(config, "use_residual", False, file):
        raise UnsupportedModel(f"{file}: use_residual is true, which embergem does not have")
    in_features, out_features = _size(config, "in_features", file), _size(config, "out_features", file)
    if size is not None and in_features != size:
        raise CorruptCheckpoint(f"{file}: in_features is {in_features}, but the module before it gives {size}")
    dense = Dense(
        weights=path,
        in_features=in_features,
        out_features=out_features,
        bias=_flag(config, "bias", True, file),
        activation=_activation(config, file),
    )
    return dense, out_features


def _normalize(directory: Path, path: str, size: int | None) -> tuple[Module, int | None]:
    if path:  # newer versions save a config, and no directory is kept for an empty one
        _refuse_rerouting(read_object_if_there(directory / "config.json"), directory / "config.json")
    return Normalize(), size


READERS: dict[str, Callable[[Path, str, int | None], tuple[Module, int | None]]] = {
    "Pooling": _pooling,
    "Dense": _dense,
    "Normalize": _normalize,
}
"""Kind -> reader(directory, path, features coming in) -> (module, features going out)."""


def _activation(config: dict[str, Any], file: Path) -> Activation | None:
    name = config.get("activation_function", "torch.nn.modules.activation.Tanh")  # sentence-transformers' default
    if name is None:
        return None
    package, _, last = str(name).rpartition(".")
    if package.partition(".")[0] != "torch" or last not in _ACTIVATIONS:
        raise UnsupportedModel(
            f"{file}: activation_function is {name!r}, which embergem does not have. It has torch's "
            + ", ".join(_ACTIVATIONS)
        )
    return _ACTIVATIONS[last]


def _refuse_rerouting(config: dict[str, Any], file: Path) -> None:
    for key in ("module_input_name", "module_output_name"):
        if config.get(key, "sentence_embedding") not in ("sentence_embedding", None):
            raise UnsupportedModel(
                f"{file}: {key} is {config[key]!r}; embergem runs modules on sentence_embedding only"
            )


def _flag(config: dict[str, Any], key: str, default: bool, file: Path) -> bool:
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise CorruptCheckpoint(f"{file}: {key} should be true or false, found {value!r}")
    return value


def _size(config: dict[str, Any], key: str, file: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CorruptCheckpoint(f"{file}: {key} should be a whole number above 0, found {value!r}")
    return value
