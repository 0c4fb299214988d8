"""Write a GGUF file as a directory of safetensors that sentence-transformers and embergem read."""

import json
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from embergem._native import Tensors
from embergem.checkpoint import gguf
from embergem.checkpoint.checkpoint import PROMPTS_FILE, WEIGHTS_FILE, Checkpoint
from embergem.checkpoint.read import read_checkpoint
from embergem.checkpoint.writer import Dtype, Floats, OutputTensor, write_safetensors
from embergem.engine.prepare import prepare
from embergem.errors import InvalidRequest, UnsupportedModel
from embergem.export.compiler import pieces, require_self_check, stored_dtype
from embergem.hub.resolve import resolve
from embergem.models.head import Dense, Module, Normalize, Pooling
from embergem.ops.trace import Source
from embergem.options import LoadOptions
from embergem.program.program import Program

_MODULE = "sentence_transformers.models.{}"
_ACTIVATIONS = {
    None: "torch.nn.modules.linear.Identity",
    "tanh": "torch.nn.modules.activation.Tanh",
    "relu": "torch.nn.modules.activation.ReLU",
    "gelu_erf": "torch.nn.modules.activation.GELU",
    "silu": "torch.nn.modules.activation.SiLU",
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
}


def convert_gguf(options: LoadOptions, into: Path, dtype: str | None = None) -> None:
    """Write a GGUF model into the new directory `into`, with its matrices as `dtype` (None is float32).

    GGUF files of some families add 1 to norm weights, because llama.cpp does not add it. The written weights are
    without it, as sentence-transformers expects.

    Raises:
        LoadError: The file cannot be read.
        UnsupportedModel: The model is not a GGUF file.
        InvalidRequest: `into` is a file, or a directory with files.
    """
    location = resolve(options)
    if gguf.find_gguf(location.path) is None:
        raise UnsupportedModel(f"{location.path} is not a GGUF file. Only GGUF files need a conversion.")
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise InvalidRequest(f"{into} is not empty. Name a new directory.", param="output")
    # sentence-transformers reads these two dtypes.
    stored = stored_dtype(dtype or "float32", ("float32", "bfloat16")) or "F32"
    checkpoint = read_checkpoint(location, options)
    ready = prepare(checkpoint, location.id, options)
    config = dict(checkpoint.config)
    folded = config.pop("norms_folded", False)
    if ready.base is not None:
        config["_name_or_path"] = ready.base.id  # the model is recognised by this name, and with it its prompts
    into.mkdir(parents=True, exist_ok=True)
    for directory, tensors in _by_directory(checkpoint, ready.program, stored, folded).items():
        write_safetensors(into / directory / WEIGHTS_FILE, tensors)
    _json(into / "config.json", config)
    _head(into, checkpoint.head, config["hidden_size"])
    _json(into / "sentence_bert_config.json", {"max_seq_length": ready.limit, "do_lower_case": False})
    _json(into / PROMPTS_FILE, {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"})
    shutil.copyfile(checkpoint.tokenizer, into / "tokenizer.json")
    # The written files must load.
    require_self_check(LoadOptions(model=into, allow_missing_dense=options.allow_missing_dense))


def _by_directory(
    checkpoint: Checkpoint, program: Program, dtype: Dtype, folded: bool
) -> dict[str, list[OutputTensor]]:
    """Return the tensors of each file that sentence-transformers reads, by the directory of the file."""
    found = Tensors([(prefix, str(file)) for prefix, file in checkpoint.weights], prefixes=program.prefixes)
    sources = {source.tensor: source for weight in program.weights for source in weight.sources}
    dense = [module.weights for module in checkpoint.head if isinstance(module, Dense)]
    files: dict[str, list[OutputTensor]] = {}
    for name, source in sorted(sources.items()):
        directory = next((place for place in dense if name.startswith(f"{place}.")), "")
        shift = 1.0 if folded and not directory and len(source.shape) == 1 else 0.0
        entry = OutputTensor(
            name=name.removeprefix(f"{directory}."),
            shape=source.shape,
            dtype=dtype if len(source.shape) > 1 else "F32",
            pieces=partial(_shifted, found, source, shift),
        )
        files.setdefault(directory, []).append(entry)
    return files


def _shifted(found: Tensors, source: Source, shift: float) -> Iterator[Floats]:
    for piece in pieces(found, source):
        yield piece - piece.dtype.type(shift)


def _head(into: Path, head: Sequence[Module], hidden: int) -> None:
    rows = [{"idx": 0, "name": "0", "path": "", "type": _MODULE.format("Transformer")}]
    for number, module in enumerate(head, start=1):
        kind = type(module).__name__
        path = module.weights if isinstance(module, Dense) else f"{number}_{kind}"
        rows.append({"idx": number, "name": str(number), "path": path, "type": _MODULE.format(kind)})
        match module:
            case Pooling(mode):
                keys = (
                    "cls_token",
                    "mean_tokens",
                    "max_tokens",
                    "mean_sqrt_len_tokens",
                    "weightedmean_tokens",
                    "lasttoken",
                )
                chosen = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken", "max": "max_tokens"}[mode]
                flags = {f"pooling_mode_{key}": key == chosen for key in keys}
                _json(
                    into / path / "config.json", {"word_embedding_dimension": hidden, **flags, "include_prompt": True}
                )
            case Dense(_, in_features, out_features, bias, activation):
                _json(
                    into / path / "config.json",
                    {
                        "in_features": in_features,
                        "out_features": out_features,
                        "bias": bias,
                        "activation_function": _ACTIVATIONS[activation],
                    },
                )
            case Normalize():
                (into / path).mkdir(exist_ok=True)
    _json(into / "modules.json", rows)


def _json(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
