"""Quantise an ONNX model to the static int8 of OpenVINO, by the post-training quantisation of NNCF.

    python benchmarks/build_nncf.py MODEL.onnx DIRECTORY/NAME.xml < DOCUMENTS.json

Standard input has rows of token ids, which calibrate the ranges of the activations. The settings are those that NNCF
documents for transformers: `ModelType.TRANSFORMER`, and the preset with symmetric weights and asymmetric activations.
"""

import json
import sys
from pathlib import Path

import nncf
import numpy as np
import openvino as ov


def main(model: str, out: Path) -> None:
    """Write the directory with NAME.xml and NAME.bin."""
    rows = json.load(sys.stdin)

    def inputs(row: list[int]) -> dict[str, np.ndarray]:
        return {"ids": np.array([row], dtype=np.int64), "mask": np.ones((1, len(row)), dtype=np.int64)}

    quantized = nncf.quantize(
        ov.Core().read_model(model),
        nncf.Dataset(rows, inputs),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(rows),
    )
    unfinished = out.parent.with_suffix(".part")
    ov.save_model(quantized, str(unfinished / out.name), compress_to_fp16=False)
    unfinished.rename(out.parent)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
