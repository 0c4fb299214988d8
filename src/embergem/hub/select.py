"""Which files of a repository a model needs: never pickled weights, never code, not the other formats beside it."""

import re
from collections.abc import Container, Iterable
from pathlib import PurePosixPath

from embergem.checkpoint.checkpoint import WEIGHTS_FILE
from embergem.checkpoint.modules import BODY_KINDS, MODULES_FILE, ModuleEntry
from embergem.checkpoint.read import INDEX_FILE, PROMPTS_FILE

_BODY = ("config.json", "tokenizer.json", "tokenizer_config.json", "sentence_bert_config.json")
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")


def needed(chain: Iterable[ModuleEntry], names: Iterable[str]) -> list[str]:
    """Return which of the files `names` of a repository the modules need, small ones first.

    >>> needed([ModuleEntry("Transformer", "")], ["config.json", "model.safetensors", "pytorch_model.bin", "setup.py"])
    ['config.json', 'model.safetensors']
    """
    there = set(names)
    wanted = {MODULES_FILE, PROMPTS_FILE}
    for module in chain:
        at = PurePosixPath(module.path)
        if module.kind in BODY_KINDS:
            wanted |= {str(at / name) for name in _BODY}
            if str(at / WEIGHTS_FILE) in there:
                wanted.add(str(at / WEIGHTS_FILE))
            else:
                wanted.add(str(at / INDEX_FILE))
                beside = (PurePosixPath(name) for name in there if PurePosixPath(name).parent == at)
                wanted |= {str(path) for path in beside if _SHARD.fullmatch(path.name)}
        else:
            wanted |= {str(at / "config.json"), str(at / WEIGHTS_FILE)} if module.path else set()
    return sorted(wanted & there, key=lambda name: (name.endswith(".safetensors"), name))


def lacking(chain: Iterable[ModuleEntry], there: Container[str]) -> list[str]:
    """Return which files the modules cannot do without and `there` doesn't have."""
    found = []
    for module in chain:
        at = PurePosixPath(module.path)
        required: tuple[str, ...] = ()
        if module.kind in BODY_KINDS:
            weights = INDEX_FILE if str(at / INDEX_FILE) in there else WEIGHTS_FILE
            required = ("config.json", "tokenizer.json", weights)
        elif module.kind == "Dense":
            required = ("config.json", WEIGHTS_FILE)
        found += [str(at / name) for name in required if str(at / name) not in there]
    return found
