"""Selects the files of a repository that a model needs: no pickled weights, no code, no other formats of the weights.

Separate because `download` selects from the files on the hub, and `hf_cache` from those in the hub library's cache.
"""

import re
from collections.abc import Container, Iterable
from pathlib import PurePosixPath

from embergem.checkpoint.checkpoint import INDEX_FILE, PROMPTS_FILE, WEIGHTS_FILE
from embergem.checkpoint.modules import BODY_KINDS, MODULES_FILE, ModuleEntry

_BODY_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    *(f"sentence_{name}_config.json" for name in ("bert", "roberta", "distilbert", "camembert", "albert")),
    *(f"sentence_{name}_config.json" for name in ("xlm-roberta", "xlnet")),
    "adapter_config.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "processor_config.json",
)
"""Files that are read, and files whose presence changes how the published library reads the others."""
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")


def needed_files(modules: Iterable[ModuleEntry], names: Iterable[str]) -> list[str]:
    """Return which of the files `names` of a repository the modules need, weights last.

    >>> needed_files([ModuleEntry("Transformer", "")], ["config.json", "model.safetensors", "model.bin", "setup.py"])
    ['config.json', 'model.safetensors']
    """
    available = set(names)
    wanted = {MODULES_FILE, PROMPTS_FILE}
    for module in modules:
        directory = PurePosixPath(module.path)
        if module.kind in BODY_KINDS:
            wanted |= {str(directory / name) for name in _BODY_FILES}
            if str(directory / WEIGHTS_FILE) in available:
                wanted.add(str(directory / WEIGHTS_FILE))
            else:
                wanted.add(str(directory / INDEX_FILE))
                siblings = (PurePosixPath(name) for name in available if PurePosixPath(name).parent == directory)
                wanted |= {str(path) for path in siblings if _SHARD.fullmatch(path.name)}
        else:
            wanted |= {str(directory / "config.json"), str(directory / WEIGHTS_FILE)} if module.path else set()
    return sorted(wanted & available, key=lambda name: (name.endswith(".safetensors"), name))


def missing_files(modules: Iterable[ModuleEntry], available: Container[str]) -> list[str]:
    """Return the files that the modules require and `available` does not have."""
    found = []
    for module in modules:
        directory = PurePosixPath(module.path)
        required: tuple[str, ...] = ()
        if module.kind in BODY_KINDS:
            weights = INDEX_FILE if str(directory / INDEX_FILE) in available else WEIGHTS_FILE
            required = ("config.json", "tokenizer.json", weights)
        elif module.kind == "Dense":
            required = ("config.json", WEIGHTS_FILE)
        found += [str(directory / name) for name in required if str(directory / name) not in available]
    return found
