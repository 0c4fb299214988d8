"""Makes a cache in the layout of `huggingface_hub`, with two revisions of a model whose weights differ."""

import hashlib
import shutil

from goldens import copy_model
from safetensors.numpy import load_file, save_file

OLD, NEW = "1" * 40, "2" * 40
MODEL = "acme/tiny"


def two_versions(directory):
    """Return the directories of a tiny BERT, and of a copy in which the vectors of words are permuted."""
    first = copy_model("bert_mean", directory / "first")
    second = shutil.copytree(first, directory / "second")
    tensors = load_file(second / "model.safetensors")
    [words] = [name for name in tensors if name.endswith("word_embeddings.weight")]
    save_file(tensors | {words: tensors[words][::-1].copy()}, second / "model.safetensors")
    return first, second


def put(cache, directory, commit, *refs, model=MODEL):
    """Store a directory in the cache as a commit that `refs` point to, and return the snapshot's directory."""
    home = cache / f"models--{model.replace('/', '--')}"
    snapshot = home / "snapshots" / commit
    for path in directory.rglob("*"):
        if path.is_file():
            blob = home / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
            blob.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, blob)
            link = snapshot / path.relative_to(directory)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)
    for ref in refs:
        file = home / "refs" / ref
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(commit)
    return snapshot
