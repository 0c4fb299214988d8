"""The edits that `reference_cases.py` tries: values of fields, keys of JSON files, and files.

Separate because the tables are as long as the script.
"""

import json
from typing import Any

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

MODEL2VEC = {
    "normalize": [False, None],
    "max_length": [16, None],
    "seq_length": [16],
    "hidden_dim": [8],
    "tokenizer_name": ["elsewhere"],
    "apply_pca": [8],
    "apply_zipf": [True, False],
    "sif_coefficient": [0.5],
    "embedding_dtype": ["int8", "float32"],
    "vocabulary_quantization": [60, None],
    "token_remove_pattern": ["layer"],
    "base_model_name": ["elsewhere"],
}
"""Fields of Model2Vec's config, which has no class in transformers."""

WORD = "layer"
"""A word of the texts. A token that is written like it changes how they are read."""
LETTER = "a"
"""A token of every vocabulary, and a part of the words of the texts."""
FLAGS = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
TOKEN = {"__type": "AddedToken", "content": WORD, **FLAGS, "special": True}
DECODED = {"content": WORD, **FLAGS, "special": True}

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
        "unk_token": ["[other]", WORD, None],
        "mask_token": [WORD, TOKEN, LETTER],
        "pad_token": [WORD, LETTER],
        "own_token": [WORD, LETTER],
        "additional_special_tokens": [[WORD], [TOKEN], [LETTER]],
        "extra_special_tokens": [["iron"], [WORD], {"own_token": WORD}, {"own_token": LETTER}],
        "model_specific_special_tokens": [{"own_token": LETTER}],
        "added_tokens_decoder": [{"7": DECODED}, {"7": DECODED | {"special": False}}, {"9999": DECODED}],
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
    {"file": "special_tokens_map.json", "text": json.dumps({"mask_token": WORD})},
    {"file": "special_tokens_map.json", "text": json.dumps({"mask_token": LETTER})},
    {"file": "special_tokens_map.json", "text": json.dumps({"additional_special_tokens": [LETTER]})},
    {"file": "added_tokens.json", "text": '{"iron": 3}'},
    {"file": "added_tokens.json", "text": json.dumps({LETTER: 7})},
    {"file": "added_tokens.json", "text": json.dumps({WORD: 7})},
    {"file": "added_tokens.json", "text": json.dumps({WORD: 9999})},
    *(
        {
            "file": "tokenizer.json",
            "set": {"truncation": {"direction": side, "max_length": 16, "strategy": "LongestFirst", "stride": 0}},
        }
        for side in ("Right", "Left")
    ),
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
    "roberta_mean": [
        _tokenizer("RobertaTokenizer"),
        _tokenizer("RobertaTokenizer", add_prefix_space=True),
        _tokenizer("RobertaTokenizer", add_prefix_space=False),
        _tokenizer("PreTrainedTokenizerFast", add_prefix_space=True),
        _tokenizer("PreTrainedTokenizerFast", truncation_side="left"),
    ],
    "albert": [
        _tokenizer("AlbertTokenizer"),
        _tokenizer("AlbertTokenizer", do_lower_case=False),
        _tokenizer("AlbertTokenizer", do_lower_case=False, keep_accents=True),
    ],
    "t5": [_tokenizer("T5Tokenizer"), _tokenizer("T5Tokenizer", extra_ids=100)],
}
"""Further edits, by golden: tokenizers that the library builds anew, and other chains of modules."""
