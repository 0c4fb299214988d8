"""Arguments of `sentence_transformers.SentenceTransformer` that embergem refuses or ignores, as data.

Separate because scripts/compatibility_page.py and the tests read the table without the class.
"""

from embergem.compat.arguments import Ignored, Refused, Table

CONSTRUCTOR: Table = {
    "modules": Refused("the modules are those of the checkpoint's modules.json"),
    "similarity_fn_name": Refused("similarity is always the cosine"),
    "trust_remote_code": Refused("embergem never runs code that comes with a model"),
    "tokenizer_kwargs": Refused("settings of the tokenizer are not taken; tokenizer= names another tokenizer.json"),
    "config_kwargs": Refused("the configuration is the checkpoint's; window= corrects a damaged one"),
    "model_kwargs": Refused("dtype= and threads= are arguments of embergem's class"),
    "backend": Ignored("embergem has one engine"),
    "local_files_only": Ignored("embergem looks into the local caches before it asks the hub"),
}
"""Arguments of the constructor."""

CONSTRUCTOR_DEFAULTS = {"trust_remote_code": False}
"""Values of arguments in `CONSTRUCTOR` that count as left out; None where nothing is given here."""
