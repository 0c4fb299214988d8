"""Entries of the models that a server serves: an embedding model of its own, or one that an upstream server has.

The selector form `{"name": {"Embedding": {...}, "alias": ...}}` is taken as it stands, and the same fields flat, as
TOML reads best. A field without meaning here is refused with the reason; none is swallowed.
"""

from typing import Any

import msgspec
from msgspec import Struct

from embergem.errors import InvalidConfig
from embergem.hub.options import revised

_DTYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
_OTHER_KINDS = (
    *("Plain", "Lora", "XLora", "GGUF", "GGML", "MultimodalPlain", "VisionPlain", "DiffusionPlain"),
    *("Speech", "Run", "Toml"),
)
_WITHOUT_MEANING = {
    "topology": "there is one device, so nothing to place",
    "num_device_layers": "there is one device, so nothing to place",
    "write_uqff": "embergem does not write UQFF",
    "from_uqff": "embergem does not read UQFF; give a checkpoint of safetensors",
    "imatrix": "weights are not quantised with an importance matrix; choose a dtype",
    "calibration_file": "nothing needs calibration; choose a dtype",
    "in_situ_quant": "choose a dtype instead",
    "chat_template": "this is for chat models, which `upstream` is for",
    "jinja_explicit": "this is for chat models, which `upstream` is for",
}


class EmbeddingEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that this server computes.

    Attributes:
        name: What it is reached by.
        model_id: Hub id, alias of the catalog, or directory.
        aliases: Other names for it.
        arch: Family that it must be of, as for `Engine.load`.
        window: A sliding window to use instead of the one in its config.json.
        dense_from: Model whose dense layers it takes, where it lacks its own.
        allow_missing_dense: Take it without the dense layers of its kind.
        dtype, threads: See `Engine.load`; None is the server's.
        tokenizer_json: A tokenizer.json to use instead of the checkpoint's.
        revision: Branch, tag or commit of a model of the hub.
        hf_cache_path: Cache directory of the hub's library, in place of its own.
        task: Task of texts that come without one.
        lazy: Load it when it is first asked for.
        keep_alive: Unload it when nobody asked for so many seconds.
    """

    name: str
    model_id: str
    aliases: tuple[str, ...] = ()
    arch: str | None = None
    window: int | None = None
    dense_from: str | None = None
    allow_missing_dense: bool = False
    dtype: str | None = None
    threads: int | None = None
    tokenizer_json: str | None = None
    revision: str | None = None
    hf_cache_path: str | None = None
    task: str | None = None
    lazy: bool = False
    keep_alive: float | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """What else it may be reached by: its `model_id`, first of all with the revision if one is named."""
        return tuple(dict.fromkeys((revised(self.model_id, self.revision), self.model_id)))


class UpstreamEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that another OpenAI-compatible server has; requests for it are forwarded.

    Attributes:
        name: What it is reached by.
        upstream: Address of that server's API, such as "http://localhost:8000/v1".
        aliases: Other names for it.
        upstream_model: What it is called there; None is `name`.
        upstream_key_env: Environment variable that holds the key for it.
    """

    name: str
    upstream: str
    aliases: tuple[str, ...] = ()
    upstream_model: str | None = None
    upstream_key_env: str | None = None


Entry = EmbeddingEntry | UpstreamEntry


def entry(name: str, given: Any, place: str) -> Entry:
    """Read one entry; `place` says where it stands, for errors.

    Raises:
        InvalidConfig: Naming the field.

    >>> entry("gemma", {"Embedding": {"model_id": "org/gemma", "arch": "embeddinggemma"}}, "models.json: gemma").arch
    'embeddinggemma'
    """
    if not isinstance(given, dict):
        raise InvalidConfig(f'{place}: it must be an object such as {{"Embedding": {{"model_id": "org/name"}}}}')
    kinds = [kind for kind in ("Embedding", *_OTHER_KINDS) if kind in given]
    if len(kinds) > 1:
        raise InvalidConfig(f"{place}: it is {' and '.join(kinds)} at once; give one of them")
    fields = {field: value for field, value in given.items() if field not in kinds}
    if kinds:
        inner = given[kinds[0]]
        if not isinstance(inner, dict):
            raise InvalidConfig(f"{place}.{kinds[0]}: it must be an object of fields")
        place = f"{place}.{kinds[0]}"
        if kinds[0] != "Embedding" and "upstream" not in fields:
            raise InvalidConfig(
                f"{place}: embergem computes embeddings and does not run other models. Serve it elsewhere and add "
                '"upstream": "http://ADDRESS/v1", and requests for it are forwarded'
            )
        if "upstream" in fields:  # of what the other server is told to load, only the name matters here
            fields.setdefault("upstream_model", inner.get("model_id"))
        else:
            fields = inner | fields
    if "alias" in fields:
        alias = fields.pop("alias")
        fields.setdefault("aliases", [alias] if isinstance(alias, str) else alias)
    fields = {field: value for field, value in fields.items() if value is not None}
    for field, why in _WITHOUT_MEANING.items():
        if field in fields:
            raise InvalidConfig(f"{place}.{field}: it has no meaning here: {why}")
    if "dtype" in fields:
        fields["dtype"] = _DTYPES.get(fields["dtype"], fields["dtype"])
    kind: type[EmbeddingEntry | UpstreamEntry] = UpstreamEntry if "upstream" in fields else EmbeddingEntry
    try:
        made = msgspec.convert({"name": name, **fields}, kind)
    except (msgspec.ValidationError, TypeError) as error:
        raise InvalidConfig(f"{place}: {str(error).replace('`$.', '`')}") from None
    if isinstance(made, UpstreamEntry) and not made.upstream.startswith(("http://", "https://")):
        raise InvalidConfig(f"{place}.upstream: {made.upstream!r} is no http:// or https:// address")
    return made
