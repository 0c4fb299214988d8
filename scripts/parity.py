"""Compare embergem with sentence-transformers on the same texts, and print the largest difference of each model.

    python scripts/parity.py [MODEL ...]

Without MODEL it compares the tiny checkpoints of every family, the real all-MiniLM-L6-v2 and the full-size random
EmbeddingGemma. The first run installs sentence-transformers and torch into a virtual environment beside the test
assets. If the package index has no CPU build of torch, that is a CUDA build of about 3 GB.
"""

import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from random_gemma import assets
from served import python as environment

from embergem import Embedder, TruncationWarning
from embergem.hub.resolve import resolve
from embergem.options import LoadOptions

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch==2.13.0", "transformers==5.24.0", "sentence-transformers==6.2.0", "model2vec==0.10.0")
TOLERANCE = 1e-5
REMOTE_CODE = {"gte_new"}
"""Goldens in the form of the authors' files, which the library loads with code from the hub only. It computed their
vectors from the same tensors in its own form."""
LEFT_OUT = {"embedding_gemma2", *REMOTE_CODE}  # the first requires the image processor files of the whole model
LONG = "Graphene is a single layer of carbon atoms, and nobody had expected it to be stable. "
TEXTS = [
    "", "a", "What is graphene?", "task: search result | query: What is graphene?", "Ünïcödé, 東京 and 🦆!\n\tend",
    "Русский язык; हिन्दी; العربية; 한국어; ไทย", "def f(x):\n    return x ** 2", "nul\0byte", LONG * 3, LONG * 40,
    LONG * 200,
]  # fmt: skip

REFERENCE = """
import json, os, sys
import numpy as np
from model2vec import StaticModel
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedTokenizerFast

order = json.load(open(sys.argv[1]))
vectors = {}
for model in order["models"]:
    config = os.path.join(model, "config.json")
    if os.path.exists(config) and json.load(open(config)).get("model_type") == "model2vec":
        reference = StaticModel.from_pretrained(model)
        # The library cuts long texts by characters before it counts tokens; embergem counts tokens only.
        texts = [text for text in order["texts"] if len(text) < reference.max_length * reference.median_token_length]
        vectors[f"{model}|alone"] = np.stack([reference.encode([text])[0] for text in texts])
        vectors[f"{model}|padded"] = reference.encode(texts)
        continue
    reference = SentenceTransformer(model, device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"})
    # Without a tokenizer_config.json the class of the tokenizer is guessed, and parts of it are replaced.
    if os.path.exists(config) and not os.path.exists(f"{model}/tokenizer_config.json"):
        plain = PreTrainedTokenizerFast(tokenizer_file=f"{model}/tokenizer.json")
        plain.pad_token = plain.convert_ids_to_tokens(reference[0].auto_model.config.pad_token_id or 0)
        limit, reference[0].processor = reference.max_seq_length, plain
        reference.max_seq_length = limit
    for name, batch_size in (("alone", 1), ("padded", 16)):
        vectors[f"{model}|{name}"] = reference.encode(order["texts"], batch_size=batch_size, show_progress_bar=False)
    for name in reference.prompts:
        if reference.prompts[name]:
            vectors[f"{model}|prompt {name}"] = reference.encode(order["texts"][:3], prompt_name=name, batch_size=1)
np.savez(sys.argv[2], **vectors)
"""


def python() -> Path:
    """Return the interpreter that has sentence-transformers; create its environment at the first call."""
    return environment("parity", PACKAGES)


def main() -> int:
    """Run both engines and print one line a model; return 1 if a model differs by more than the tolerance."""
    goldens = ROOT / "tests" / "data" / "goldens"
    tiny = [path.parent for path in sorted(goldens.glob("*/model.safetensors")) if path.parent.name not in LEFT_OUT]
    default: list[str | Path | None] = [None, assets() / "random-embeddinggemma-300m"]
    named = [resolve(LoadOptions(model=name)) for name in sys.argv[1:] or default]
    models = {location.path: location.id for location in named}
    if len(sys.argv) == 1:
        models = {path: path.name for path in tiny} | models
    with tempfile.TemporaryDirectory() as scratch:
        order, answer = Path(scratch) / "order.json", Path(scratch) / "answer.npz"
        order.write_text(json.dumps({"models": [str(model) for model in models], "texts": TEXTS}))
        start = time.monotonic()
        subprocess.run([str(python()), "-c", REFERENCE, str(order), str(answer)], check=True)
        print(f"sentence-transformers took {time.monotonic() - start:.0f} s")
        expected = dict(np.load(answer))
    worst = 0.0
    print(f"{'model':40} {'alone':>9} {'padded':>9} {'prompts':>9}  largest difference in any component")
    for model in models:
        with Embedder(model) as embedder, warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)  # sentence-transformers always truncates; do the same
            vectors = embedder.embed(TEXTS, truncate=True)
            found = {"alone": 0.0, "padded": 0.0, "prompts": 0.0}
            for key, reference in expected.items():
                path, _, what = key.partition("|")
                if path != str(model):
                    continue
                task = what.removeprefix("prompt ") if what.startswith("prompt ") else None
                ours = embedder.embed(TEXTS[:3], task=task, truncate=True) if task else vectors[: len(reference)]
                kind = "prompts" if task else what
                found[kind] = max(found[kind], float(np.abs(ours - reference).max()))
        worst = max(worst, *found.values())
        print(f"{models[model][:40]:40} " + " ".join(f"{value:9.1e}" for value in found.values()))
    print(f"{'within' if worst <= TOLERANCE else 'NOT within'} {TOLERANCE:g}")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
