"""Write tests/data/gguf/blocks.npz: random blocks of every format, and their values by `gguf.quants`.

Run it in an environment that has the package gguf (0.19.0 made the stored file): python scripts/gguf_blocks.py
"""

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants  # type: ignore[import-not-found]

NAMES = ("F16", "BF16", "Q8_0", "Q4_0", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")
HALVES = {"Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}  # where a block's float16 scales are


def main() -> None:
    """Write the file."""
    random = np.random.default_rng(11)
    stored: dict[str, Any] = {}
    for name in NAMES:
        kind = GGMLQuantizationType[name]
        values, size = GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, size=(512 // values * 2, size), dtype=np.uint8)
        if values > 1:
            for place in HALVES.get(name, (0,)):
                scales = random.normal(size=(len(blocks), 1)).astype(np.float16)
                blocks[:, place : place + 2] = scales.view(np.uint8)
        else:
            blocks = random.normal(size=len(blocks)).astype(np.float16).view(np.uint8).reshape(blocks.shape)
        stored[f"{name}.bytes"] = blocks.ravel()
        stored[f"{name}.values"] = quants.dequantize(blocks.reshape(2, -1), kind).ravel()
    np.savez_compressed(Path(__file__).parents[1] / "tests" / "data" / "gguf" / "blocks.npz", **stored)


if __name__ == "__main__":
    main()
