"""What embergem refuses, ignores or does differently of the library sentence-transformers, as data.

scripts/compatibility_page.py writes docs/compatibility.md from these tables. A test compares them with the members and
signatures of the real library (tests/data/sentence_transformers_api.json).
"""

from collections.abc import Mapping

from embergem.compat.arguments import Different, Ignored, Refused, Table

CONSTRUCTOR: Table = {
    "modules": Refused("the modules are those of the checkpoint's modules.json"),
    "trust_remote_code": Refused("embergem never runs code that comes with a model"),
    "processor_kwargs": Refused("settings of the tokenizer are not taken; tokenizer= names another tokenizer.json"),
    "tokenizer_kwargs": Refused("settings of the tokenizer are not taken; tokenizer= names another tokenizer.json"),
    "config_kwargs": Refused("the configuration is the checkpoint's; window= corrects a damaged one"),
    "model_kwargs": Refused("dtype= and threads= are arguments of embergem's class"),
    "use_auth_token": Refused("it is the old name of token="),
    "backend": Ignored("embergem has one engine"),
    "local_files_only": Ignored("embergem looks into the local caches before it asks the hub"),
    "model_card_data": Ignored("embergem writes no model cards"),
}
"""Arguments of the constructor."""

CONSTRUCTOR_DEFAULTS = {"trust_remote_code": False, "backend": "torch", "local_files_only": False}
"""Values of arguments in `CONSTRUCTOR` that count as left out; None where nothing is given here."""

ENCODE: Table = {
    "batch_size": Ignored("batches are packed by tokens, and no vector depends on its batch"),
    "chunk_size": Ignored("batches are packed by tokens, and no vector depends on its batch"),
    "pool": Ignored("encode already uses the threads of the model"),
    "device": Ignored("embergem computes on the CPU"),
}
"""Arguments of `encode`, `encode_query`, `encode_document` and `encode_multi_process`."""

ENCODE_DEFAULTS = {"batch_size": 32, "device": "cpu"}
"""Values of arguments in `ENCODE` that count as left out; None where nothing is given here."""

_NO_TRAINING = "embergem computes embeddings and does not train; train with sentence-transformers and load the result"
_NO_SAVING = "embergem does not write checkpoints; use `embergem compile` for a directory that loads fast"
_NO_ADAPTERS = "embergem loads no adapters; merge the adapter into the weights first"
_NO_MODULES = "the model is one native program, and no list of torch modules"

MEMBERS: Mapping[str, Refused | Ignored | Different] = {
    **dict.fromkeys(
        ["fit", "old_fit", "gradient_checkpointing_enable", "smart_batching_collate"],
        Refused(_NO_TRAINING),
    ),
    **dict.fromkeys(["save", "save_pretrained", "save_to_hub", "push_to_hub", "merge"], Refused(_NO_SAVING)),
    **dict.fromkeys(
        [
            "active_adapter", "active_adapters", "add_adapter", "check_peft_compatible_model", "delete_adapter",
            "disable_adapters", "enable_adapters", "get_adapter_state_dict", "has_peft_compatible_model",
            "load_adapter", "set_adapter",
        ],
        Refused(_NO_ADAPTERS),
    ),
    **dict.fromkeys(
        [
            "append", "config", "extend", "get_sentence_features", "insert", "pop", "processor", "transformers_model",
        ],
        Refused(_NO_MODULES),
    ),
    **dict.fromkeys(
        ["clear_placement_cache", "default_huggingface_organization", "model_card_data_class", "model_type"],
        Refused("it belongs to that library's files and devices"),
    ),
    "compile": Ignored("the model is a compiled program already"),
    "cpu": Ignored("embergem computes on the CPU"),
    "cuda": Ignored("embergem computes on the CPU"),
    "to": Ignored("embergem computes on the CPU"),
    "float": Ignored("dtype= is chosen when the model is loaded"),
    "half": Ignored("dtype= is chosen when the model is loaded"),
    "bfloat16": Ignored("dtype= is chosen when the model is loaded"),
    "double": Ignored("dtype= is chosen when the model is loaded"),
    "eval": Ignored("there is no training mode"),
    "train": Ignored("there is no training mode"),
    "requires_grad_": Ignored("there are no gradients"),
    "share_memory": Ignored("the weights are mapped files, which processes share"),
    "zero_grad": Ignored("there are no gradients"),
    "device": Different('always "cpu", as a string'),
    "dtype": Different("the name of the arithmetic, as a string"),
    "get_backend": Different('"embergem"'),
    "encode": Different(
        "precision int8 and uint8 and output_value other than sentence_embedding are refused; texts over the limit are "
        "cut with a warning; pairs are refused; arrays are returned unless tensors are asked for"
    ),
    "encode_query": Different("as `encode`"),
    "encode_document": Different("as `encode`"),
    "encode_multi_process": Different("uses the threads of this process"),
    "start_multi_process_pool": Different("starts no process and returns an empty pool"),
    "max_seq_length": Different("can be lowered; a larger value than the model's limit is refused"),
    "preprocess": Different("returns NumPy arrays"),
    "tokenize": Different("returns NumPy arrays"),
    "tokenizer": Different("an object with `encode`, `decode` and `__call__`, of no class of transformers"),
    "set_pooling_include_prompt": Different("only the value of the checkpoint is accepted"),
    "similarity": Different("returns an array for arrays, and a tensor for tensors"),
    "similarity_pairwise": Different("returns an array for arrays, and a tensor for tensors"),
}  # fmt: skip
"""Public members of the class; those that are not listed are the same. For members of torch.nn.Module see `refuse`."""

NAMES: Mapping[str, Refused] = {
    **dict.fromkeys(
        ["CrossEncoder", "SparseEncoder", "MultiVectorEncoder"],
        Refused("embergem computes one dense vector a text so far; use that library for rerankers and sparse vectors"),
    ),
    **dict.fromkeys(
        [
            "InputExample", "SentenceTransformerTrainer", "SentenceTransformerTrainingArguments",
            "SentenceTransformerModelCardData", "SentencesDataset", "ParallelSentencesDataset", "LoggingHandler",
            "datasets", "evaluation", "losses", "models", "readers", "mine_hard_negatives",
        ],
        Refused(_NO_TRAINING),
    ),
}  # fmt: skip
"""Public names of the module of that library that embergem does not have."""
