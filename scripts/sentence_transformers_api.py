"""Record the interface of sentence-transformers and results of its functions, for the tests of the compatibility class.

PYTHON scripts/sentence_transformers_api.py

PYTHON is the interpreter of an environment with sentence-transformers, such as the one that `make parity` installs. The
result is tests/data/sentence_transformers_api.json.
"""

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer, util

FILE = Path(__file__).parents[1] / "tests" / "data" / "sentence_transformers_api.json"
MATRIX = ("cos_sim", "dot_score", "euclidean_sim", "manhattan_sim")
PAIRWISE = ("pairwise_cos_sim", "pairwise_dot_score", "pairwise_euclidean_sim", "pairwise_manhattan_sim")
PRECISIONS = ("int8", "uint8", "binary", "ubinary")


def main() -> None:
    """Write the file."""
    torch_members = set(dir(torch.nn.Module))
    members = {
        name: {"torch": name in torch_members, "parameters": parameters(getattr(SentenceTransformer, name, None))}
        for name in dir(SentenceTransformer)
        if not name.startswith("_")
    }
    record = {
        "version": sentence_transformers.__version__,
        "constructor": parameters(SentenceTransformer.__init__),
        "members": members,
        "functions": {
            name: parameters(getattr(util, name)) for name in dir(util) if inspect.isfunction(getattr(util, name))
        },
        "results": results(),
    }
    FILE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def parameters(member: Any) -> list[str] | None:
    """Return the names of the parameters of a callable; None for a property or an attribute."""
    if not callable(member):
        return None
    return [name for name in inspect.signature(member).parameters if name != "self"]


def results() -> dict[str, Any]:
    """Return results of the functions for arrays that the test makes with the same seed."""
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((5, 16)).astype(np.float32), rng.standard_normal((7, 16)).astype(np.float32)
    # Three groups of similar vectors, for pairs and communities.
    groups = np.repeat(rng.standard_normal((3, 16)), [6, 4, 5], axis=0) + 0.2 * rng.standard_normal((15, 16))
    groups = groups.astype(np.float32)
    pairs = util.paraphrase_mining_embeddings(torch.from_numpy(groups), top_k=2, max_pairs=12)
    return {
        **{name: rounded(getattr(util, name)(a, b)) for name in MATRIX},
        **{name: rounded(getattr(util, name)(a, b[:5])) for name in PAIRWISE},
        "semantic_search": [
            [[hit["corpus_id"], round(float(hit["score"]), 5)] for hit in hits]
            for hits in util.semantic_search(torch.from_numpy(a), torch.from_numpy(b), top_k=3)
        ],
        "paraphrase_mining_embeddings": [[round(float(score), 5), i, j] for score, i, j in pairs],
        "community_detection": util.community_detection(torch.from_numpy(groups), 0.75, min_community_size=4),
        "quantize_embeddings": {
            precision: sentence_transformers.quantize_embeddings(groups, precision).tolist() for precision in PRECISIONS
        },
    }


def rounded(tensor: Any) -> Any:
    """Return a tensor as lists of numbers with five decimals."""
    return np.asarray(tensor).astype(np.float64).round(5).tolist()


if __name__ == "__main__":
    main()
