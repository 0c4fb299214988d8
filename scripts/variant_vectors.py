"""Compute the vectors of the variants in tests/data/variants.json with sentence-transformers.

    python scripts/variant_vectors.py

A variant is a golden checkpoint with other fields in config.json, other tensor names or another order of modules. Each
row of ids is computed alone, in float32. tests/models/test_variants.py compares embergem with the stored vectors.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from parity import python

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from variants import VARIANTS, VECTORS, rows_of, write  # noqa: E402  # tests/ is no package

REFERENCE = """
import json, sys
import numpy as np
import sentence_transformers, torch, transformers
from sentence_transformers import SentenceTransformer

order = json.load(open(sys.argv[1]))
made_with = {module.__name__: module.__version__ for module in (sentence_transformers, transformers, torch)}
vectors = {"made_with": np.array(json.dumps(made_with))}
for name, (model, rows) in order.items():
    reference = SentenceTransformer(model, device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"})
    found = []
    with torch.inference_mode():
        for row in rows:
            ids = torch.tensor([row])
            features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            found.append(reference(features)["sentence_embedding"][0].numpy())
    vectors[name] = np.stack(found)
    print(name, flush=True)
np.savez_compressed(sys.argv[2], **vectors)
"""


def main() -> None:
    """Write the vectors."""
    with tempfile.TemporaryDirectory() as scratch:
        order = {}
        for number, variant in enumerate(VARIANTS):
            order[variant["name"]] = (str(write(variant, Path(scratch) / str(number))), rows_of(variant))
        (Path(scratch) / "order.json").write_text(json.dumps(order))
        subprocess.run([str(python()), "-c", REFERENCE, f"{scratch}/order.json", str(VECTORS)], check=True)


if __name__ == "__main__":
    main()
