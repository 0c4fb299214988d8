"""A cache of the hub's library as that library lays it out, with two revisions of one model whose weights differ."""

import hashlib
import shutil

from goldens import DATA, NOT_MODEL
from safetensors.numpy import load_file, save_file

OLD, NEW = "1" * 40, "2" * 40
MODEL = "acme/tiny"


def two_versions(directory):
    """Directories of a tiny BERT, and of one whose words have the vectors of other words."""
    first = shutil.copytree(DATA / "bert_mean", directory / "first", ignore=NOT_MODEL)
    second = shutil.copytree(first, directory / "second")
    tensors = load_file(second / "model.safetensors")
    [words] = [name for name in tensors if name.endswith("word_embeddings.weight")]
    save_file(tensors | {words: tensors[words][::-1].copy()}, second / "model.safetensors")
    return first, second


def put(cache, directory, commit, *refs, model=MODEL):
    """Put a directory into the cache as a commit that `refs` name; returns the snapshot."""
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
