"""Arguments and methods of mistral.rs that embergem refuses or ignores, as data.

Arguments that are in no table are accepted and have the meaning that mistral.rs gives them.
"""

from embergem.compat.arguments import Ignored, Refused, Table

_ONE_DEVICE = Refused("embergem computes on one device, so there is nothing to place")
_CHAT_ONLY = Refused("it is for chat models, and embergem computes embeddings only")
_NO_CALIBRATION = Refused("no dtype of embergem needs calibration data; choose a dtype instead")
_NO_IMATRIX = Refused("embergem does not quantise with an importance matrix; choose a dtype instead")
_NO_UQFF_OUTPUT = Refused("embergem does not write UQFF; `embergem compile` writes a model to one directory")
_NO_UQFF_INPUT = Refused("embergem does not read UQFF; give a safetensors checkpoint or a GGUF file")
_NO_ISQ_AT_LOAD = Refused('choose the arithmetic with with_dtype("int16") or with_dtype("auto")')
_NO_CACHE = Ignored("an embedding model has no KV cache")
_NO_PAGED_ATTENTION = Ignored("an embedding model has no KV cache to page")
_NO_CHAT_TEMPLATE = Ignored("an embedding model has no chat template; use a task for a prompt")
_NO_SPECULATION = Ignored("an embedding model generates no tokens to predict")

RUNNER: Table = {
    "max_seqs": Ignored("batches are bounded by their tokens, and no vector depends on its batch"),
    "no_kv_cache": _NO_CACHE,
    "prefix_cache_n": _NO_CACHE,
    "mtp_model": _NO_SPECULATION,
    "mtp_n_predict": _NO_SPECULATION,
    "chat_template": _NO_CHAT_TEMPLATE,
    "jinja_explicit": _NO_CHAT_TEMPLATE,
    "num_device_layers": _ONE_DEVICE,
    "in_situ_quant": Refused("choose the arithmetic with Which.Embedding(dtype=ModelDType.I16) or ModelDType.I8"),
    "anymoe_config": _CHAT_ONLY,
    "pa_gpu_mem": _NO_PAGED_ATTENTION,
    "pa_gpu_mem_usage": _NO_PAGED_ATTENTION,
    "pa_ctxt_len": _NO_PAGED_ATTENTION,
    "pa_blk_size": _NO_PAGED_ATTENTION,
    "pa_cache_type": _NO_PAGED_ATTENTION,
    "no_paged_attn": _NO_PAGED_ATTENTION,
    "paged_attn": _NO_PAGED_ATTENTION,
    "seed": Ignored("computing an embedding draws no random numbers"),
    "enable_search": _CHAT_ONLY,
    "search_embedding_model": _CHAT_ONLY,
    "search_callback": _CHAT_ONLY,
    "tool_callbacks": _CHAT_ONLY,
    "mcp_client_config": _CHAT_ONLY,
    "code_execution_config": _CHAT_ONLY,
    "shell_config": _CHAT_ONLY,
}
"""Arguments of `Runner`."""

WHICH_EMBEDDING: Table = {
    "topology": _ONE_DEVICE,
    "write_uqff": _NO_UQFF_OUTPUT,
    "from_uqff": _NO_UQFF_INPUT,
    "imatrix": _NO_IMATRIX,
    "calibration_file": _NO_CALIBRATION,
}
"""Arguments of `Which.Embedding`."""

EMBEDDING_MODEL_BUILDER: Table = {
    "with_isq": _NO_ISQ_AT_LOAD,
    "with_auto_isq": _NO_ISQ_AT_LOAD,
    "with_imatrix": _NO_IMATRIX,
    "with_calibration_file": _NO_CALIBRATION,
    "with_topology": _ONE_DEVICE,
    "with_topology_from_path": _ONE_DEVICE,
    "with_device_mapping": _ONE_DEVICE,
    "write_uqff": _NO_UQFF_OUTPUT,
    "from_uqff": _NO_UQFF_INPUT,
}
"""Methods of `EmbeddingModelBuilder`."""
