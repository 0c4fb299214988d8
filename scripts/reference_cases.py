"""Ask the published library what each setting of a checkpoint changes, and store its answers for the tests.

    python scripts/reference_cases.py [--live] [GOLDEN ...]

A case is a golden checkpoint with one edit: a field of config.json that the config class of transformers has, set to
another value, or a key of another JSON file, or a file that is added, renamed or removed. The answer of the library is
"same", the first numbers of the vectors that it gives instead, or the error that it raises. The answers are written to
`tests/data/reference_cases.json`; `tests/models/test_reference_cases.py` runs the cases through embergem. With `--live`
nothing is written: the answers are compared with those in the file, so that a new version of the library is noticed.

The library is in the virtual environment of `make parity`.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from parity import REMOTE_CODE, python
from reference_edits import FIELDS, FILES, LISTS, MODEL2VEC, OWN

ROOT = Path(__file__).parents[1]
GOLDENS = ROOT / "tests" / "data" / "goldens"
FILE = ROOT / "tests" / "data" / "reference_cases.json"
SENTENCE = (
    "What is Graphene? A single layer of carbon atoms; nobody at the Café had expected it to be stable, "
    "1 or 2 years on. "
)
TEXTS = [SENTENCE, SENTENCE * 12]
"""One text below the limit of every golden, and one above."""

TASK = """
import json, sys, tempfile, shutil, dataclasses, random, warnings
from pathlib import Path
import numpy as np, torch, transformers, sentence_transformers, model2vec
from sentence_transformers import SentenceTransformer
from model2vec import StaticModel
from transformers import AutoModel, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging
logging.set_verbosity_error(); logging.disable_progress_bar(); warnings.simplefilter("ignore")
torch.set_num_threads(1)
order = json.load(open(sys.argv[1]))

def other_values(name, value):
    "One other value of a field, by its present value and its name."
    if name in order["fields"]: return []
    if isinstance(value, bool): return [not value]
    if isinstance(value, int): return [value + 1] if name.endswith("token_id") or value < 4 else [value // 2]
    if isinstance(value, float): return [0.1 if 0 < value < 1e-3 else value * 2 or 0.5]
    if name == "layer_types": return []
    if name == "architectures": return [["OtherModel"]]
    if name in ("dtype", "torch_dtype"): return ["bfloat16"]
    if name in ("id2label", "label2id"): return [{"0": "a", "1": "b", "2": "c"}]
    if name == "problem_type": return ["regression"]
    if name == "transformers_version": return ["4.0.0"]
    if name in ("feed_forward_proj",): return ["gated-silu"]
    if name in ("activation", "classifier_activation"): return ["relu"]
    if name == "classifier_pooling": return ["mean" if value != "mean" else "cls"]
    if isinstance(value, dict): return []
    if name.endswith("_token_id"): return [1]
    if name in ("text_config", "vision_config", "audio_config"): return []
    return [2]

def is_model2vec(directory):
    file = directory / "config.json"
    return file.exists() and json.loads(file.read_text()).get("model_type") == "model2vec"

def config_edits(directory):
    "Every field that the config class of the family has, and further ones, each with another value."
    if not (directory / "config.json").exists(): return []
    config = json.loads((directory / "config.json").read_text())
    inside = config.get("text_config", config)
    names, fields = {}, order["fields"]
    if is_model2vec(directory):
        fields = fields | order["model2vec"]
    else:
        cls = CONFIG_MAPPING[inside["model_type"]]
        names = {f.name: f.default for f in dataclasses.fields(cls)}
        names |= {alias: names.get(name) for alias, name in cls.attribute_map.items()}
    where = {"file": "config.json"} if inside is config else {"file": "config.json", "inside": "text_config"}
    edits = []
    for name in sorted({*names, *fields, *inside} - {"model_type"}):
        value = inside.get(name, names.get(name))
        if value is dataclasses.MISSING: value = None
        values = fields.get(name) or other_values(name, value)
        if name == "layer_types" and value:
            both = {"full_attention": "sliding_attention", "sliding_attention": "full_attention"}
            values = [[both[value[0]], *value[1:]]]
        if name == "rope_parameters" and isinstance(value, dict) and "full_attention" in value:
            values = values + [{**value, "full_attention": {"rope_type": "default", "rope_theta": 77.0}}]
        for one in values:
            if one == inside.get(name, "absent"): continue
            edits.append({**where, "set": {name: one}})
        if name in inside:
            edits.append({**where, "unset": name})
    return edits

def file_edits(directory):
    edits = []
    for file, keys in order["files"].items():
        if not (directory / file).exists(): continue
        content = json.loads((directory / file).read_text())
        for key, values in keys.items():
            values = [value for value in values if key not in content or content[key] != value]
            edits += [{"file": file, "set": {key: value}} for value in values]
    return edits

def apply(directory, edit):
    file = directory / edit["file"]
    if "remove" in edit: file.unlink(missing_ok=True)
    if "rename" in edit: file.rename(directory / edit["rename"])
    if "text" in edit: file.write_text(edit["text"])
    if "set" in edit or "unset" in edit:
        content = json.loads(file.read_text())
        fields = content[edit["inside"]] if "inside" in edit else content
        fields.update(edit.get("set", {}))
        fields.pop(edit.get("unset"), None)
        file.write_text(json.dumps(content))

def encode(directory, texts, original):
    torch.manual_seed(0); random.seed(0); np.random.seed(0)
    if original.name == "embedding_gemma2":  # the library requires the image processor of the whole model
        from tokenizers import Tokenizer
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        model = AutoModel.from_pretrained(directory, local_files_only=True, dtype="float32").eval()
        vectors = []
        for text in texts:
            ids = tokenizer.encode(text).ids
            if len(ids) > 128: ids = ids[:127] + ids[-1:]
            with torch.no_grad(): hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
            vectors.append(torch.nn.functional.normalize(hidden.mean(0), dim=-1).numpy())
        return np.stack(vectors)
    if is_model2vec(directory):
        model = StaticModel.from_pretrained(str(directory))
        return np.stack([model.encode([text])[0] for text in texts])
    model = SentenceTransformer(str(directory), device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"})
    if (directory / "config.json").exists() and not (directory / "tokenizer_config.json").exists():
        # Its class would be guessed, and parts of the tokenizer replaced.
        plain = PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"))
        plain.pad_token = plain.convert_ids_to_tokens(model[0].auto_model.config.pad_token_id or 0)
        limit, model[0].processor = model.max_seq_length, plain
        model.max_seq_length = limit
    return np.stack([model.encode([text], show_progress_bar=False)[0] for text in texts])

def answer(directory, edit, base, texts):
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / directory.name
        shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("expected.npz", "inputs.json"))
        apply(copy, edit)
        try:
            found = encode(copy, texts, directory)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt): raise
            return f"error: {type(error).__name__}: {str(error).replace(scratch, 'DIR')}"[:110]
        if found.ndim != 2: return f"error: vectors of the shape {found.shape}"
        if not np.isfinite(found).all(): return "error: the vectors have values that are not finite"
        if found.shape == base.shape and np.abs(found - base).max() < order["tolerance"]: return "same"
        return [[round(float(x), 6) for x in row[:4]] for row in found]

answers = {}
for name in order["goldens"]:
    directory = Path(order["root"]) / name
    base = encode(directory, order["texts"], directory)
    cases = []
    edits = config_edits(directory) + order["own"].get(name, [])
    if name in order["with_files"]:
        lists = [one for one in order["lists"] if "rename" not in one or (directory / one["file"]).exists()]
        edits += file_edits(directory) + lists
    for edit in edits:
        cases.append({"edit": edit, "answer": answer(directory, edit, base, order["texts"])})
    answers[name] = {"base": [[round(float(x), 6) for x in row[:4]] for row in base], "cases": cases}
    print(name, len(cases), flush=True)
libraries = (transformers, sentence_transformers, torch, model2vec)
versions = {library.__name__: library.__version__.split("+")[0] for library in libraries}
json.dump({"made_with": versions, "answers": answers}, open(sys.argv[2], "w"))
"""

WITH_FILES = (
    "albert",
    "bert_mean",
    "camembert",
    "distilbert",
    "llama",
    "mistral",
    "qwen2",
    "qwen3_bidirectional",
    "roberta_mean",
    "static",
    "static_embedding",
    "t5",
)
"""Goldens for which the other files are tried too. Most have a tokenizer_config.json."""


def ask(goldens: list[str]) -> dict[str, Any]:
    """Return the answers of the library for all cases of `goldens`."""
    order = {
        "root": str(GOLDENS), "goldens": goldens, "with_files": WITH_FILES, "fields": FIELDS,
        "model2vec": MODEL2VEC, "files": FILES,
        "lists": LISTS, "own": OWN, "texts": TEXTS, "tolerance": 2e-6,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        question, answer = Path(scratch) / "order.json", Path(scratch) / "answer.json"
        question.write_text(json.dumps(order))
        subprocess.run([str(python()), "-c", TASK, str(question), str(answer)], check=True)
        found: dict[str, Any] = json.loads(answer.read_text())
    return found


def text_of(document: dict[str, Any]) -> str:
    """Return the file: one case a line."""
    head = [f' "made_with": {json.dumps(document["made_with"])},', f' "texts": {json.dumps(TEXTS)},', ' "answers": {']
    blocks = []
    for name, golden in document["answers"].items():
        cases = ",\n".join("   " + json.dumps(case, ensure_ascii=False) for case in golden["cases"])
        blocks.append(f'  {json.dumps(name)}: {{"base": {json.dumps(golden["base"])}, "cases": [\n{cases}\n  ]}}')
    return "\n".join(["{", *head, ",\n".join(blocks), " }", "}"]) + "\n"


def main() -> int:
    """Write the answers of the library, or compare them with the stored ones."""
    chosen = [name for name in sys.argv[1:] if not name.startswith("--")]
    every = sorted({path.parent.name for path in GOLDENS.glob("*/modules.json")} - REMOTE_CODE)
    document = ask(chosen or every)
    if "--live" in sys.argv:
        stored = json.loads(FILE.read_text())["answers"]
        changed = [name for name, golden in document["answers"].items() if golden != stored[name]]
        print(f"answers differ from the stored ones: {changed or 'none'}")
        return int(bool(changed))
    if chosen:
        document["answers"] = json.loads(FILE.read_text())["answers"] | document["answers"]
    FILE.write_text(text_of(document), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
