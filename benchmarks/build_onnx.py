"""Convert a checkpoint to ONNX without torch: in float32, and in the dynamic int8 of ONNX Runtime.

    python benchmarks/build_onnx.py gemma|minilm CHECKPOINT OUT

`graphs/NAME.graph.onnx` is the graph of the model with its weights as inputs. This script adds the weights.
"""

import sys
from pathlib import Path

import onnx
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file

GRAPHS = Path(__file__).parent / "graphs"


def main(name: str, checkpoint: Path, out: Path) -> None:
    """Write OUT/NAME.onnx and OUT/NAME.int8.onnx."""
    weights = {key.replace(".", "_"): value for key, value in load_file(checkpoint / "model.safetensors").items()}
    if name == "gemma":  # the graph multiplies by the norm weight, Gemma by the norm weight plus 1
        weights = {key: value + 1 if key.endswith("norm_weight") else value for key, value in weights.items()}
        for number in (2, 3):
            weights[f"d{number}"] = load_file(checkpoint / f"{number}_Dense" / "model.safetensors")["linear.weight"]
    model = onnx.load(str(GRAPHS / f"{name}.graph.onnx"))
    inputs = [value for value in model.graph.input if value.name in ("ids", "mask")]
    turned = {
        node.input[0]: node for node in model.graph.node if node.op_type == "Transpose" and node.input[0] in weights
    }
    for value in model.graph.input:
        if value.name in turned:
            node = turned[value.name]
            model.graph.initializer.append(numpy_helper.from_array(weights[value.name].T.copy(), node.output[0]))
            model.graph.node.remove(node)
        elif value.name not in ("ids", "mask"):
            model.graph.initializer.append(numpy_helper.from_array(weights[value.name], value.name))
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    out.mkdir(parents=True, exist_ok=True)
    full, small = out / f"{name}.onnx", out / f"{name}.int8.onnx"
    onnx.save(model, str(full), save_as_external_data=True, location=f"{name}.onnx.data")
    quantize_dynamic(
        str(full), str(small), weight_type=QuantType.QInt8, per_channel=True, reduce_range=True,
        op_types_to_quantize=["MatMul"], use_external_data_format=True,
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
