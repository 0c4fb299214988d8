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

from parity import python

ROOT = Path(__file__).parents[1]
GOLDENS = ROOT / "tests" / "data" / "goldens"
FILE = ROOT / "tests" / "data" / "reference_cases.json"
SENTENCE = (
    "What is Graphene? A single layer of carbon atoms; nobody at the Café had expected it to be stable, "
    "1 or 2 years on. "
)
TEXTS = [SENTENCE, SENTENCE * 12]
"""One text below the limit of every golden, and one above."""

OWN_KEY = "a_field_that_nobody_has"
ROPE = [{"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}, {"type": "linear", "factor": 4.0}]
FIELDS: dict[str, list[Any]] = {
    OWN_KEY: ["x"],
    "is_causal": [True, False],
    "use_bidirectional_attention": [True, False],
    "rope_theta": [500.0],
    "rope_scaling": [
        {"rope_type": "linear", "factor": 4.0},
        {"type": "dynamic", "factor": 2.0},
        {"rope_type": "default"},
    ],
    "rope_parameters": ROPE,
    "rope_local_base_freq": [500.0],
    "global_rope_theta": [500.0],
    "local_rope_theta": [500.0],
    "rotary_emb_base": [500.0],
    "partial_rotary_factor": [0.5],
    "position_embedding_type": ["absolute", "relative_key"],
    "per_layer_config": [{"1": {"intermediate_size": 48}}],
    "tie_last_hidden_states": [True, False],
    "sliding_window": [4],
    "use_sliding_window": [True],
    "sliding_window_pattern": [2],
    "_sliding_window_pattern": [2],
    "local_attention": [4],
    "global_attn_every_n_layers": [2],
    "pruned_heads": [{"0": [0]}, {}],
    "attn_implementation": ["eager"],
    "_attn_implementation": ["eager"],
    "num_labels": [7],
    "auto_map": [{"AutoModel": "modeling_own.OwnModel"}],
    "max_length": [4],
    "temperature": [0.5],
    "attn_logit_softcapping": [5.0],
    "final_logit_softcapping": [5.0],
    "hidden_act": ["relu"],
    "hidden_activation": ["relu"],
    "head_dim": [8],
    "causal": [True, False],
    "layer_norm_eps": [0.1],
    "layer_norm_epsilon": [0.1],
    "scale_attn_weights": [False],
    "prenorm": [True],
    "norm_bias": [True],
    "attention_bias": [True],
    "mlp_bias": [True],
    "dense_act_fn": ["silu"],
    "is_gated_act": [True, False],
    "embedding_size": [32],
    "output_attentions": [True],
    "torchscript": [True],
    "use_bfloat16": [True],
    "torch_dtype": ["bfloat16"],
    "cross_attention_hidden_size": [32],
    "gradient_checkpointing": [True],
    "quantization_config": [{"quant_method": "bitsandbytes", "load_in_8bit": True}],
    "pooler_type": ["first_token_transform"],
    "summary_type": ["mean"],
    "n_positions": [64],
    "max_window_layers": [1],
    "query_pre_attn_scalar": [8],
    "norms_folded": [True],
}
"""Further fields that checkpoints of any family carry, because their authors or older versions wrote them."""

BERT_KEYS = {"do_lower_case": [True, False], "strip_accents": [True, False], "tokenize_chinese_chars": [False]}
FILES: dict[str, dict[str, list[Any]]] = {
    "tokenizer_config.json": BERT_KEYS
    | {
        OWN_KEY: ["x"],
        "truncation_side": ["left", "right"],
        "padding_side": ["left", "right"],
        "add_prefix_space": [True, False],
        "add_bos_token": [True, False],
        "add_eos_token": [True, False],
        "model_max_length": [16, 1e30],
        "max_length": [16],
        "clean_up_tokenization_spaces": [True],
        "split_special_tokens": [True],
        "legacy": [True, False],
        "trim_offsets": [False],
        "keep_accents": [True, False],
        "remove_space": [True, False],
        "use_fast": [False],
        "stride": [2],
        "truncation_strategy": ["only_first"],
        "model_input_names": [["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]],
        "tokenizer_class": ["PreTrainedTokenizerFast", "TokenizersBackend"],
        "chat_template": ["{{ messages[0]['content'] }}!"],
        "auto_map": [{"AutoTokenizer": ["tokenization_own.Own", None]}],
        "name_or_path": ["elsewhere"],
        "add_special_tokens": [False],
        "unk_token": ["[other]"],
        "extra_special_tokens": [["iron"]],
    },
    "sentence_bert_config.json": {
        OWN_KEY: ["x"],
        "max_seq_length": [16, None, 1000],
        "do_lower_case": [True, False],
        "transformer_task": ["fill-mask"],
        "module_output_name": ["sentence_embedding"],
        "modality_config": [
            {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            {"text": {"method": "forward", "method_output_name": "pooler_output"}},
            {
                "text": {"method": "forward", "method_output_name": "last_hidden_state"},
                "message": {"method": "forward", "method_output_name": "last_hidden_state", "format": "flat"},
            },
        ],
        "processing_kwargs": [
            {},
            {"text": {"max_length": 16}},
            {"common": {"max_length": 16}},
            {"text": {"add_special_tokens": False}},
            {"text": {"padding": "longest"}},
            {"text": {"truncation": False}},
            {"chat_template": {"add_generation_prompt": True}},
        ],
        "unpad_inputs": [True, False, None],
        "query_length": [8, None],
        "document_length": [8, None],
        "query_expansion": [None],
        "model_args": [{}, {"attn_implementation": "eager"}, {"add_pooling_layer": False}, {"torch_dtype": "bfloat16"}],
        "model_kwargs": [{"dtype": "float32"}],
        "tokenizer_args": [{"model_max_length": 16}, {"truncation_side": "left"}, {"do_lower_case": False}],
        "processor_kwargs": [{"model_max_length": 16}, {"truncation_side": "left"}, {"padding_side": "left"}, {}],
        "config_args": [{}, {"num_hidden_layers": 1}, {"use_cache": False}],
        "config_kwargs": [{"hidden_act": "relu"}, {"trust_remote_code": True}],
        "tokenizer_name_or_path": [None],
    },
    "config_sentence_transformers.json": {
        OWN_KEY: ["x"],
        "truncate_dim": [16, None],
        "prompts": [{"query": None}, {}],
        "default_prompt_name": [None],
        "similarity_fn_name": ["dot", None],
        "model_type": ["SparseEncoder", "SentenceTransformer"],
        "requirements": [{"transformers": ">=4.0"}],
    },
    "1_Pooling/config.json": {
        OWN_KEY: ["x"],
        "include_prompt": [False, True],
        "pooling_mode": ["max"],
        "embedding_dimension": [48],
        "word_embedding_dimension": [48],
        "pooling_mode_max_tokens": [True],
    },
    "2_Dense/config.json": {
        OWN_KEY: ["x"],
        "use_residual": [False, True],
        "bias": [False, True],
        "in_features": [48],
        "out_features": [48],
        "module_input_name": ["token_embeddings", "sentence_embedding"],
    },
}
"""Keys of the other JSON files, with the values that are tried."""

LISTS: list[dict[str, Any]] = [
    {"file": "adapter_config.json", "text": '{"peft_type": "LORA", "base_model_name_or_path": "elsewhere", "r": 4}'},
    {"file": "adapter_model.safetensors", "text": "x"},
    {"file": "chat_template.jinja", "text": "{{ messages[0]['content'] }}!"},
    {"file": "preprocessor_config.json", "text": "{}"},
    {"file": "generation_config.json", "text": '{"max_length": 4}'},
    {"file": "pytorch_model.bin", "text": "x"},
    {"file": "README.md", "text": "---\n---\n"},
    {"file": "special_tokens_map.json", "text": "{}"},
    {"file": "added_tokens.json", "text": '{"iron": 3}'},
    {"file": "modules.json", "remove": True},
    {"file": "1_Pooling/config.json", "remove": True},
    {"file": "config.json", "remove": True},
    *(
        {"file": "sentence_bert_config.json", "rename": f"sentence_{name}_config.json"}
        for name in ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet", "other")
    ),
]
"""Files that are added, renamed or removed."""


def _tokenizer(name: str, **settings: Any) -> dict[str, Any]:
    """Return the edit that writes a tokenizer_config.json with the class `name`."""
    tokens = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    if name == "AlbertTokenizer":
        tokens |= {"pad_token": "<pad>", "unk_token": "<unk>"}
    elif name != "BertTokenizer":
        tokens = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    content = {"tokenizer_class": f"{name}", "model_max_length": 128, **tokens, **settings}
    return {"file": "tokenizer_config.json", "text": json.dumps(content)}


def _chain(*modules: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    """Return the edit that writes a modules.json with these names, paths and kinds."""
    rows = [
        {"idx": index, "name": name, "path": path, "type": f"sentence_transformers.models.{kind}", **more}
        for index, (name, path, kind) in enumerate(modules)
    ]
    return {"file": "modules.json", "text": json.dumps(rows)}


BODY, POOLING, UNIT = ("0", "", "Transformer"), ("1", "1_Pooling", "Pooling"), ("2", "2_Normalize", "Normalize")
BERT_TOKENIZERS = [
    _tokenizer("BertTokenizer", **settings)
    for settings in (
        {},
        {"do_lower_case": True},
        {"do_lower_case": False},
        {"strip_accents": False},
        {"strip_accents": True},
        {"tokenize_chinese_chars": False},
        {"truncation_side": "left"},
    )
]
OWN: dict[str, list[dict[str, Any]]] = {
    "bert_mean": [
        *BERT_TOKENIZERS,
        _chain(BODY, POOLING, ("1", "2_Normalize", "Normalize")),
        _chain(BODY, POOLING),
        _chain(BODY, POOLING, UNIT, own="x"),
        _chain(BODY, POOLING, UNIT, kwargs=["task"]),
        _chain(BODY, POOLING, UNIT, kwargs=[]),
    ],
    "distilbert": BERT_TOKENIZERS,
    "nomic_bert": BERT_TOKENIZERS,
    "xlm_roberta": [
        _tokenizer("XLMRobertaTokenizer"),
        _tokenizer("XLMRobertaTokenizer", do_lower_case=True),
        _tokenizer("XLMRobertaTokenizer", add_prefix_space=False),
        _tokenizer("XLMRobertaTokenizer", add_prefix_space=True),
        _tokenizer("BertTokenizer"),
        _tokenizer("RobertaTokenizer"),
        _tokenizer("PreTrainedTokenizerFast", add_prefix_space=False),
    ],
    "albert": [
        _tokenizer("AlbertTokenizer"),
        _tokenizer("AlbertTokenizer", do_lower_case=False),
        _tokenizer("AlbertTokenizer", do_lower_case=False, keep_accents=True),
    ],
    "t5": [_tokenizer("T5Tokenizer"), _tokenizer("T5Tokenizer", extra_ids=100)],
}
"""Further edits, by golden: tokenizers that the library builds anew, and other chains of modules."""

TASK = """
import json, sys, tempfile, shutil, dataclasses, random, warnings
from pathlib import Path
import numpy as np, torch, transformers, sentence_transformers
from sentence_transformers import SentenceTransformer
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

def config_edits(directory):
    "Every field that the config class of the family has, and further ones, each with another value."
    config = json.loads((directory / "config.json").read_text())
    inside = config.get("text_config", config)
    cls = CONFIG_MAPPING[inside["model_type"]]
    names = {f.name: f.default for f in dataclasses.fields(cls)}
    names |= {alias: names.get(name) for alias, name in cls.attribute_map.items()}
    where = {"file": "config.json"} if inside is config else {"file": "config.json", "inside": "text_config"}
    edits = []
    for name in sorted({*names, *order["fields"], *inside} - {"model_type"}):
        value = inside.get(name, names.get(name))
        if value is dataclasses.MISSING: value = None
        values = order["fields"].get(name) or other_values(name, value)
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
    model = SentenceTransformer(str(directory), device="cpu", local_files_only=True, model_kwargs={"dtype": "float32"})
    if not (directory / "tokenizer_config.json").exists():  # else its class is guessed and parts of it are replaced
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
        edits += file_edits(directory) + order["lists"]
    for edit in edits:
        cases.append({"edit": edit, "answer": answer(directory, edit, base, order["texts"])})
    answers[name] = {"base": [[round(float(x), 6) for x in row[:4]] for row in base], "cases": cases}
    print(name, len(cases), flush=True)
libraries = (transformers, sentence_transformers, torch)
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
    "t5",
)
"""Goldens for which the other files are tried too. Most have a tokenizer_config.json."""


def ask(goldens: list[str]) -> dict[str, Any]:
    """Return the answers of the library for all cases of `goldens`."""
    order = {
        "root": str(GOLDENS), "goldens": goldens, "with_files": WITH_FILES, "fields": FIELDS, "files": FILES,
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
    every = sorted(path.parent.name for path in GOLDENS.glob("*/config.json") if path.parent.name != "static")
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
