"""The config.json and modules.json of published models, reduced to what a program depends on.

Only fields that a family reads are here. They were copied from the files of a model if these were available, and
otherwise from the authors' description. A wrong value is harmless, because no checkpoint then meets the conditions of
the card.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from embergem.models.head import Dense, Module, Normalize, Pooling

MEAN, CLS, LAST = Pooling("mean"), Pooling("cls"), Pooling("last")
UNIT = Normalize()


@dataclass(frozen=True)
class Published:
    """Models with the same program: hub ids, config.json, and head."""

    models: tuple[str, ...]
    config: dict[str, Any]
    head: tuple[Module, ...]


def bert(hidden: int, layers: int, heads: int, vocab: int = 30522) -> dict[str, Any]:
    """Return the config of a BERT with the usual proportions."""
    return {
        "model_type": "bert",
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
    }


def roberta(kind: str, hidden: int, layers: int, heads: int, vocab: int, places: int) -> dict[str, Any]:
    """Return the config of a RoBERTa or XLM-RoBERTa. `places` includes the two rows before that of the first token."""
    own = {"model_type": kind, "max_position_embeddings": places, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    return bert(hidden, layers, heads, vocab) | own | {"pad_token_id": 1}


def modernbert(hidden: int, inner: int, layers: int, heads: int) -> dict[str, Any]:
    """Return the config of a ModernBERT."""
    return {
        "model_type": "modernbert",
        "vocab_size": 50368,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "norm_eps": 1e-5,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
        "hidden_activation": "gelu",
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
    }


def qwen3(hidden: int, inner: int, layers: int, heads: int, vocab: int) -> dict[str, Any]:
    """Return the config of a Qwen3-Embedding."""
    return {
        "model_type": "qwen3",
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "hidden_act": "silu",
        "attention_bias": False,
        "use_sliding_window": False,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000,
    }


def distilbert(vocab: int) -> dict[str, Any]:
    """Return the config of a DistilBERT with the usual proportions."""
    return {
        "model_type": "distilbert",
        "vocab_size": vocab,
        "dim": 768,
        "hidden_dim": 3072,
        "n_layers": 6,
        "n_heads": 12,
        "max_position_embeddings": 512,
        "activation": "gelu",
        "sinusoidal_pos_embds": False,
    }


_MISTRAL_7B = {
    "model_type": "mistral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
}


def qwen2(hidden: int, inner: int, heads: int, kv_heads: int) -> dict[str, Any]:
    """Return the config of a gte-Qwen2, which attends in both directions."""
    return {
        "model_type": "qwen2",
        "vocab_size": 151646,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": 28,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "hidden_act": "silu",
        "use_sliding_window": False,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "is_causal": False,
    }


_GEMMA_LAYERS = (["sliding_attention"] * 5 + ["full_attention"]) * 4
_GEMMA = {
    "model_type": "gemma3_text",
    "vocab_size": 262144,
    "hidden_size": 768,
    "intermediate_size": 1152,
    "num_hidden_layers": 24,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "attention_bias": False,
    "attn_logit_softcapping": None,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 2048,
    "sliding_window": 512,
    "_sliding_window_pattern": 6,
    "layer_types": _GEMMA_LAYERS,
    "use_bidirectional_attention": True,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
}
_HARRIER = _GEMMA | {
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "max_position_embeddings": 32768,
    "layer_types": _GEMMA_LAYERS[:18],
    "use_bidirectional_attention": False,
}
_GEMMA_2 = {
    "model_type": "embedding_gemma2",
    "text_config": {
        "model_type": "embedding_gemma2_text",
        "vocab_size": 262144,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "hidden_size_per_layer_input": 512,
        "embedding_dim": 768,
        "num_hidden_layers": 24,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "rms_norm_eps": 1e-6,
        "sliding_window": 512,
        "layer_types": _GEMMA_LAYERS,
        "per_layer_config": {layer: {"head_dim": 512, "num_key_value_heads": 1} for layer in ("05", "11", "17", "23")},
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    },
}
_NOMIC = {
    "model_type": "nomic_bert",
    "vocab_size": 30528,
    "n_embd": 768,
    "n_inner": 3072,
    "n_layer": 12,
    "n_head": 12,
    "type_vocab_size": 2,
    "layer_norm_epsilon": 1e-12,
    "activation_function": "swiglu",
    "prenorm": False,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_emb_base": 1000,
}
_MPNET = {
    "model_type": "mpnet",
    "vocab_size": 30527,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "max_position_embeddings": 514,
    "relative_attention_num_buckets": 32,
    "pad_token_id": 1,
    "layer_norm_eps": 1e-5,
    "hidden_act": "gelu",
}


def t5(hidden: int, inner: int, heads: int, layers: int) -> dict[str, Any]:
    """Return the config of an encoder of T5."""
    return {
        "model_type": "t5",
        "vocab_size": 32128,
        "d_model": hidden,
        "d_kv": 64,
        "d_ff": inner,
        "num_heads": heads,
        "num_layers": layers,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": "relu",
    }


def gte(hidden: int, layers: int, vocab: int, types: int, theta: float, factor: float | None) -> dict[str, Any]:
    """Return the config of a GTE in the spelling of its authors. `factor` is that of the NTK scaling, if any."""
    return {
        "model_type": "new",
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_attention_heads": hidden // 64,
        "num_hidden_layers": layers,
        "type_vocab_size": types,
        "layer_norm_eps": 1e-12,
        "layer_norm_type": "layer_norm",
        "hidden_act": "gelu",
        "position_embedding_type": "rope",
        "rope_theta": theta,
        "rope_scaling": None if factor is None else {"type": "ntk", "factor": factor},
    }


_ALBERT_SMALL = {
    "model_type": "albert",
    "vocab_size": 30000,
    "embedding_size": 128,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 6,
    "num_hidden_groups": 1,
    "inner_group_num": 1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu_new",
}

PUBLISHED = (
    Published(("sentence-transformers/all-MiniLM-L6-v2",), bert(384, 6, 12), (MEAN, UNIT)),
    Published(("Snowflake/snowflake-arctic-embed-xs",), bert(384, 6, 12), (CLS, UNIT)),
    Published(
        ("sentence-transformers/all-MiniLM-L12-v2", "intfloat/e5-small-v2", "thenlper/gte-small"),
        bert(384, 12, 12),
        (MEAN, UNIT),
    ),
    Published(("BAAI/bge-small-en-v1.5", "Snowflake/snowflake-arctic-embed-s"), bert(384, 12, 12), (CLS, UNIT)),
    Published(("intfloat/multilingual-e5-small",), bert(384, 12, 12, 250037), (MEAN, UNIT)),
    Published(("intfloat/e5-base-v2", "thenlper/gte-base"), bert(768, 12, 12), (MEAN, UNIT)),
    Published(
        (
            "BAAI/bge-base-en-v1.5",
            "Snowflake/snowflake-arctic-embed-m",
            "Snowflake/snowflake-arctic-embed-m-v1.5",
        ),
        bert(768, 12, 12),
        (CLS, UNIT),
    ),
    Published(("intfloat/e5-large-v2", "thenlper/gte-large"), bert(1024, 24, 16), (MEAN, UNIT)),
    Published(("BAAI/bge-large-en-v1.5", "Snowflake/snowflake-arctic-embed-l"), bert(1024, 24, 16), (CLS, UNIT)),
    Published(("mixedbread-ai/mxbai-embed-large-v1",), bert(1024, 24, 16), (CLS,)),
    Published(("sentence-transformers/all-mpnet-base-v2",), _MPNET, (MEAN, UNIT)),
    Published(
        ("sentence-transformers/all-distilroberta-v1",), roberta("roberta", 768, 6, 12, 50265, 514), (MEAN, UNIT)
    ),
    Published(("intfloat/multilingual-e5-base",), roberta("xlm-roberta", 768, 12, 12, 250002, 514), (MEAN, UNIT)),
    Published(("intfloat/multilingual-e5-large",), roberta("xlm-roberta", 1024, 24, 16, 250002, 514), (MEAN, UNIT)),
    Published(
        ("BAAI/bge-m3", "Snowflake/snowflake-arctic-embed-l-v2.0"),
        roberta("xlm-roberta", 1024, 24, 16, 250002, 8194),
        (CLS, UNIT),
    ),
    Published(
        (
            "sentence-transformers/distiluse-base-multilingual-cased-v1",
            "sentence-transformers/distiluse-base-multilingual-cased-v2",
        ),
        distilbert(119547),
        (MEAN, Dense("2_Dense", in_features=768, out_features=512, bias=True, activation="tanh")),
    ),
    Published(("sentence-transformers/multi-qa-distilbert-cos-v1",), distilbert(30522), (MEAN, UNIT)),
    Published(("sentence-transformers/msmarco-distilbert-base-tas-b",), distilbert(30522), (CLS,)),
    Published(("sentence-transformers/paraphrase-albert-small-v2",), _ALBERT_SMALL, (MEAN,)),
    *(
        Published(
            (f"sentence-transformers/sentence-t5-{size}", f"sentence-transformers/gtr-t5-{size}"),
            config,
            (
                MEAN,
                Dense("2_Dense", in_features=config["d_model"], out_features=768, bias=False, activation=None),
                UNIT,
            ),
        )
        for size, config in (("base", t5(768, 3072, 12, 12)), ("large", t5(1024, 4096, 16, 24)))
    ),
    Published(("nomic-ai/nomic-embed-text-v1.5",), _NOMIC, (MEAN,)),
    Published(("nomic-ai/nomic-embed-text-v1",), _NOMIC, (MEAN, UNIT)),
    Published(("Alibaba-NLP/gte-multilingual-base",), gte(768, 12, 250048, 1, 20000.0, 8.0), (CLS, UNIT)),
    Published(("Alibaba-NLP/gte-base-en-v1.5",), gte(768, 12, 30528, 0, 500000.0, None), (CLS,)),
    Published(("Alibaba-NLP/gte-large-en-v1.5",), gte(1024, 24, 30528, 2, 160000.0, 2.0), (CLS,)),
    Published(("Snowflake/snowflake-arctic-embed-m-v2.0",), gte(768, 12, 250048, 1, 160000.0, None), (CLS, UNIT)),
    Published(("Alibaba-NLP/gte-modernbert-base",), modernbert(768, 1152, 22, 12), (CLS,)),
    Published(("ibm-granite/granite-embedding-english-r2",), modernbert(768, 1152, 22, 12), (CLS, UNIT)),
    Published(("ibm-granite/granite-embedding-small-english-r2",), modernbert(384, 1536, 12, 12), (CLS, UNIT)),
    Published(("Qwen/Qwen3-Embedding-0.6B",), qwen3(1024, 3072, 28, 16, 151669), (LAST, UNIT)),
    Published(("Qwen/Qwen3-Embedding-4B",), qwen3(2560, 9728, 36, 32, 151665), (LAST, UNIT)),
    Published(("Qwen/Qwen3-Embedding-8B",), qwen3(4096, 12288, 36, 32, 151665), (LAST, UNIT)),
    Published(
        ("intfloat/e5-mistral-7b-instruct", "Salesforce/SFR-Embedding-Mistral"),
        _MISTRAL_7B,
        (LAST, UNIT),
    ),
    Published(("Alibaba-NLP/gte-Qwen2-1.5B-instruct",), qwen2(1536, 8960, 12, 2), (LAST, UNIT)),
    Published(("Alibaba-NLP/gte-Qwen2-7B-instruct",), qwen2(3584, 18944, 28, 4), (LAST, UNIT)),
    Published(
        (
            "google/embeddinggemma-300m",
            "unsloth/embeddinggemma-300m",
            "google/embeddinggemma-300m-qat-q4_0-unquantized",
            "google/embeddinggemma-300m-qat-q8_0-unquantized",
        ),
        _GEMMA,
        (
            MEAN,
            Dense("2_Dense", in_features=768, out_features=3072, bias=False, activation=None),
            Dense("3_Dense", in_features=3072, out_features=768, bias=False, activation=None),
            UNIT,
        ),
    ),
    Published(("google/embeddinggemma-2",), _GEMMA_2, (MEAN, UNIT)),
    Published(("microsoft/harrier-oss-v1-270m",), _HARRIER, (LAST, UNIT)),
    Published(("Lajavaness/sentence-camembert-base",), roberta("camembert", 768, 12, 12, 32005, 514), (MEAN,)),
    Published(("Lajavaness/sentence-camembert-large",), roberta("camembert", 1024, 24, 16, 32005, 514), (MEAN,)),
    *(
        Published(
            (f"sentence-transformers/static-{name}",),
            {"model_type": "static_embedding", "vocab_size": rows, "hidden_size": 1024, "table": "embedding.weight"},
            (MEAN,),
        )
        for name, rows in (("retrieval-mrl-en-v1", 30522), ("similarity-mrl-multilingual-v1", 105879))
    ),
    *(
        Published(
            tuple(f"minishlab/potion-{name}" for name in names),
            {"model_type": "model2vec", "vocab_size": rows, "hidden_size": width},
            (MEAN, UNIT),
        )
        for names, rows, width in (
            (("base-2M",), 29528, 64),
            (("base-4M",), 29528, 128),
            (("base-8M",), 29528, 256),
            (("base-32M", "retrieval-32M"), 63091, 512),
            (("multilingual-128M",), 500353, 256),
        )
    ),
)


def spellings(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a config in each form that versions of the libraries write, beginning with `config` itself."""
    forms = [config]
    if "text_config" in config:
        forms.append(config["text_config"])  # as saved without the other modalities
    for form in list(forms):
        forms += _with_rope_parameters(form)
    for form in list(forms):
        if "layer_types" in form:
            forms.append({name: value for name, value in form.items() if name != "layer_types"})
    forms += [_renamed(form) for form in forms if "n_embd" in form]
    forms += [form | {"model_type": "gte"} for form in forms if form["model_type"] == "new"]
    return forms


def _with_rope_parameters(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the form of transformers 5, which has the rotary bases in one object."""
    for full, sliding in (("rope_theta", "rope_local_base_freq"), ("global_rope_theta", "local_rope_theta")):
        if full in config and sliding in config:
            kinds = {"full_attention": config[full], "sliding_attention": config[sliding]}
            rope: dict[str, Any] = {
                kind: {"rope_type": "default", "rope_theta": float(theta)} for kind, theta in kinds.items()
            }
            yield _without(config, full, sliding) | {"rope_parameters": rope}
            return
    if (config.get("rope_scaling") or {}).get("type") == "ntk":
        width = config["hidden_size"] // config["num_attention_heads"]
        factor = config["rope_scaling"]["factor"]
        rope = {
            "rope_type": "linear",
            "factor": factor ** (2 / width),
            "rope_theta": config["rope_theta"] * factor,
        }
        yield _without(config, "rope_theta", "rope_scaling") | {"rope_parameters": rope}
        return
    for name in ("rope_theta", "rotary_emb_base"):
        if name in config:
            rope = {"rope_type": "default", "rope_theta": float(config[name])}
            yield _without(config, name) | {"rope_parameters": rope}


def _renamed(config: dict[str, Any]) -> dict[str, Any]:
    """Return a NomicBERT config with the names of transformers instead of those of GPT-2."""
    names = {
        "n_embd": "hidden_size",
        "n_inner": "intermediate_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "layer_norm_epsilon": "layer_norm_eps",
    }
    return {names.get(name, name): value for name, value in _without(config, "activation_function").items()}


def _without(config: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in names}
