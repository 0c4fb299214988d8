"""The engines that embergem is compared with: environment and model of each, created once beside the test assets."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from lengths import Rows  # noqa: E402
from parity import python as reference_python  # noqa: E402
from random_gemma import assets  # noqa: E402
from served import python as environment  # noqa: E402

PACKAGES = ("onnx==1.23.2", "onnxruntime==1.32.0", "openvino==2026.4.1", "nncf==3.4.0", "safetensors", "numpy")
MISTRALRS = ("mistralrs==0.9.5", "numpy")
LLAMA = ("llama-cpp-python==0.3.36", "gguf", "safetensors")
"""pip builds it from source with a C++ compiler, in about ten minutes on two cores."""
CALIBRATED = 30
LONGEST = 1024
"""Longest text of the plots, in tokens, so that the slowest engine takes minutes."""
POOLING = [
    f"pooling_mode_{kind}"
    for kind in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
]


@dataclass(frozen=True, slots=True)
class Rival:
    """The way to run an engine: `python benchmarks/peer.py KIND MODEL ORDER VECTORS`."""

    python: Path
    kind: str
    model: str
    source: Path | None = None
    """Directory to import embergem from, for another commit. None imports the installed one."""
    longest: int = 0
    """Longest text of the measurement by length, in tokens. 0 leaves it out, because a slow engine would take an
    hour."""


def rivals(name: str, checkpoint: Path, documents: Rows, quick: bool) -> dict[str, Rival]:
    """Return the engines to compare on one model, by their names in the table.

    The first `CALIBRATED` documents, which are also measured, calibrate the int8 of OpenVINO. `quick` leaves out slow
    engines and the measurement by text length.
    """
    onnx = assets() / "onnx" / name
    peers = environment("peers", PACKAGES)
    if not (onnx / f"{name}.int8.onnx").exists():
        script = str(ROOT / "benchmarks" / "build_onnx.py")
        subprocess.run([str(peers), script, name, str(checkpoint), str(onnx)], check=True)
    if not (quantized := onnx / "nncf" / f"{name}.xml").exists():
        script = str(ROOT / "benchmarks" / "build_nncf.py")
        order = json.dumps(documents[:CALIBRATED])
        command = [str(peers), script, str(onnx / f"{name}.onnx"), str(quantized)]
        subprocess.run(command, input=order, text=True, check=True)
    longest = 0 if quick else LONGEST
    found = {
        "ONNX Runtime fp32": Rival(peers, "onnxruntime", str(onnx / f"{name}.onnx"), longest=longest),
        "ONNX Runtime int8": Rival(peers, "onnxruntime", str(onnx / f"{name}.int8.onnx"), longest=longest),
        "OpenVINO fp32": Rival(peers, "openvino", str(onnx / f"{name}.onnx")),
        "OpenVINO int8 (NNCF)": Rival(peers, "openvino", str(quantized)),
    }
    if quick:
        return found
    found["sentence-transformers"] = Rival(reference_python(), "sentence-transformers", str(checkpoint))
    if name == "gemma":
        model = for_mistralrs(checkpoint, assets() / "mistralrs-gemma")
        found["mistralrs f32"] = Rival(environment("mistralrs", MISTRALRS), "mistralrs", str(model))
        try:
            llama = environment("llama", LLAMA)
        except subprocess.CalledProcessError as error:
            print(f"llama.cpp cannot be built on this machine and is left out: {error}", file=sys.stderr, flush=True)
        else:
            found["llama.cpp Q8_0"] = Rival(llama, "llama.cpp", str(for_llama_cpp(llama, checkpoint)))
    return found


def for_llama_cpp(python: Path, checkpoint: Path) -> Path:
    """Return the checkpoint as a GGUF file in Q8_0; the first call writes it."""
    made = assets() / "llama-gemma.gguf"
    if not made.exists():
        unfinished = made.with_suffix(".part")
        script = str(ROOT / "benchmarks" / "build_gguf.py")
        subprocess.run([str(python), script, str(checkpoint), str(unfinished)], check=True)
        unfinished.rename(made)
    return made


def for_mistralrs(checkpoint: Path, directory: Path) -> Path:
    """Return a copy of the checkpoint that mistral.rs can read. It requires every field of the pooling config."""
    config = directory / "1_Pooling" / "config.json"
    if not config.exists():
        shutil.copytree(checkpoint, directory, copy_function=os.symlink, dirs_exist_ok=True)
        given = json.loads(config.read_text())
        config.unlink()
        config.write_text(json.dumps(dict.fromkeys(POOLING, False) | given | {"include_prompt": True}))
    return directory
