"""Compute the field `parity` of a catalog entry: vectors of sentence-transformers for the published weights.

    python scripts/published_vectors.py MODEL DIRECTORY [--task TASK]

MODEL is a name of the catalog, and DIRECTORY has the published files. The field is printed as catalog.json has it. The
first run installs sentence-transformers and torch, as scripts/parity.py does.
"""

import argparse
import json
import subprocess
from pathlib import Path

from parity import PACKAGES, python

from embergem import catalog
from embergem.diagnostics.published_copy import check_files

TEXTS = ["", "What is graphene?", "Ünïcödé, 東京 and 🦆!"]
TOLERANCE = 1e-5

REFERENCE = """
import base64, json, sys
from sentence_transformers import SentenceTransformer
order = json.load(sys.stdin)
model = SentenceTransformer(order["path"], device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"})
encode = lambda text: model.encode([text], prompt_name=order["task"], show_progress_bar=False)[0]
print(json.dumps([base64.b64encode(encode(text).astype("<f4").tobytes()).decode() for text in order["texts"]]))
"""


def main() -> None:
    """Check the files against the catalog, compute the vectors and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--task")
    given = parser.parse_args()
    entry = catalog.find(given.model)
    if entry is None:
        parser.error(f"{given.model} is not in the catalog")
    if wrong := [check.name for check in check_files(entry, given.directory) if check.status == "failed"]:
        parser.error(f"{given.directory} does not have the published bytes of {', '.join(wrong)}")
    order = json.dumps({"path": str(given.directory.absolute()), "task": given.task, "texts": TEXTS})
    command = [str(python()), "-c", REFERENCE]
    answer = subprocess.run(command, input=order, stdout=subprocess.PIPE, text=True, check=True).stdout
    vectors = json.loads(answer.splitlines()[-1])
    source = PACKAGES[1].replace("==", " ")
    task = {"task": given.task} if given.task else {}
    field = {"texts": TEXTS, "vectors": vectors, "tolerance": TOLERANCE, "source": source} | task
    print(json.dumps({"parity": field}, ensure_ascii=False, indent=2))


if __name__ == "__main__":
    main()
