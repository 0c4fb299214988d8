"""Read the entries of the models that a server serves: its own embedding models, and models of upstream servers.

An entry has the selector form `{"name": {"Embedding": {...}, "alias": ...}}`, or the same fields without the inner
object, which reads better in TOML. A field that has no meaning for embergem is refused with the reason.
"""

from dataclasses import replace
from typing import Annotated, Any

from msgspec import Meta, Struct

from embergem.checkpoint.checkpoint import Location
from embergem.config.fields import check_name, read_fields
from embergem.config.settings import Count, IdleSeconds
from embergem.errors import InvalidConfig, UnsupportedOption
from embergem.hub.options import HubOptions, revised
from embergem.hub.resolve import identify
from embergem.options import LoadOptions

_DTYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
_OTHER_KINDS = (
    *("Plain", "Lora", "XLora", "GGUF", "GGML", "MultimodalPlain", "VisionPlain", "DiffusionPlain"),
    *("Speech", "Run", "Toml"),
)
_OTHER_NAMES = ("Embedding", "alias", "upstream")
"""Names in an entry besides the fields of an embedding model."""

_WITHOUT_MEANING = {
    "topology": "embergem computes on one device, so nothing is placed on devices",
    "num_device_layers": "embergem computes on one device, so nothing is placed on devices",
    "write_uqff": "embergem does not write UQFF",
    "from_uqff": "embergem does not read UQFF; name a checkpoint of safetensors",
    "imatrix": "weights are not quantised with an importance matrix; choose a dtype",
    "calibration_file": "no dtype needs calibration; choose a dtype",
    "in_situ_quant": "choose a dtype instead",
    "chat_template": "it belongs to chat models, which `upstream` forwards to another server",
    "jinja_explicit": "it belongs to chat models, which `upstream` forwards to another server",
}


class EmbeddingEntry(Struct, frozen=True, kw_only=True):
    """A model that this server computes.

    Attributes:
        name: Name of the model in requests.
        options: Which model, and how to load it. Options that are None take the server's; see `Settings.complete`.
        aliases: Other names of the model in requests.
        task: Task of texts in requests that name none.
        lazy: Load the model at its first use instead of at the start.
        keep_alive: Unload the model after this many seconds without a request; 0 unloads it at the next check. None
            keeps it loaded.
    """

    name: str
    options: LoadOptions
    aliases: tuple[str, ...] = ()
    task: str | None = None
    lazy: bool = False
    keep_alive: float | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the model on the hub that requests may use: with the revision, if one is set, then without it."""
        model = str(self.options.model)
        return tuple(dict.fromkeys((revised(model, self.options.revision), model)))


class UpstreamEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model of another OpenAI-compatible server; requests for it are forwarded.

    Attributes:
        name: Name of the model in requests.
        upstream: Address of the other server's API, such as "http://localhost:8000/v1".
        aliases: Other names of the model in requests.
        upstream_model: Name of the model on the other server. None is `name`.
        upstream_key_env: Environment variable that holds the API key for the other server.
    """

    name: str
    upstream: str
    aliases: tuple[str, ...] = ()
    upstream_model: str | None = None
    upstream_key_env: str | None = None


Entry = EmbeddingEntry | UpstreamEntry


class EmbeddingFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of an embedding model in a configuration file; see `LoadOptions` and `EmbeddingEntry`."""

    model_id: str
    aliases: tuple[str, ...] = ()
    arch: str | None = None
    window: Annotated[int, Meta(ge=2, le=2**31 - 1)] | None = None
    dense_from: str | None = None
    allow_missing_dense: bool = False
    dtype: str | None = None
    threads: Count | None = None
    tokenizer_json: str | None = None
    revision: str | None = None
    hf_cache_path: str | None = None
    task: str | None = None
    lazy: bool = False
    keep_alive: IdleSeconds | None = None

    def entry(self, name: str) -> EmbeddingEntry:
        """Return the entry that these fields describe."""
        options = LoadOptions(
            model=self.model_id,
            arch=self.arch,
            window=self.window,
            dense_from=self.dense_from,
            allow_missing_dense=self.allow_missing_dense,
            dtype=self.dtype,
            threads=self.threads,
            tokenizer=self.tokenizer_json,
            revision=self.revision,
            hf_cache_path=self.hf_cache_path,
        )
        return EmbeddingEntry(
            name=name,
            options=options,
            aliases=self.aliases,
            task=self.task,
            lazy=self.lazy,
            keep_alive=self.keep_alive,
        )


def read_entry(name: str, given: Any, place: str) -> Entry:
    """Read one entry.

    Args:
        name: Name of the model in requests.
        given: The entry as it was parsed.
        place: File and name of the entry, for errors.

    Raises:
        InvalidConfig: Naming the field.

    >>> read_entry("gemma", {"Embedding": {"model_id": "org/gemma"}}, "models.json: gemma").options.model
    'org/gemma'
    """
    try:
        check_name(name)
    except UnsupportedOption as error:
        raise InvalidConfig(f"{place}: {error.message}.") from None
    if not isinstance(given, dict):
        raise InvalidConfig(f'{place}: it must be an object such as {{"Embedding": {{"model_id": "org/name"}}}}.')
    kinds = [kind for kind in ("Embedding", *_OTHER_KINDS) if kind in given]
    if len(kinds) > 1:
        raise InvalidConfig(f"{place}: it is {' and '.join(kinds)} at once. Keep one of them.")
    fields = {field: value for field, value in given.items() if field not in kinds}
    if kinds:
        inner = given[kinds[0]]
        if not isinstance(inner, dict):
            raise InvalidConfig(f"{place}.{kinds[0]}: it must be an object of fields.")
        place = f"{place}.{kinds[0]}"
        if kinds[0] != "Embedding" and "upstream" not in fields:
            raise InvalidConfig(
                f"{place}: embergem computes embeddings and does not run other models. Serve it elsewhere and add "
                '"upstream": "http://ADDRESS/v1", and embergem forwards requests for it.'
            )
        if "upstream" in fields:  # the other server loads the model, so only its name is used here
            fields.setdefault("upstream_model", inner.get("model_id"))
        else:
            fields = inner | fields
    if "alias" in fields:
        alias = fields.pop("alias")
        fields.setdefault("aliases", [alias] if isinstance(alias, str) else alias)
    fields = {field: value for field, value in fields.items() if value is not None}
    for field, why in _WITHOUT_MEANING.items():
        if field in fields:
            raise InvalidConfig(f"{place}.{field}: it has no meaning here: {why}.")
    if "dtype" in fields:
        fields["dtype"] = _DTYPES.get(str(fields["dtype"]), fields["dtype"])
    if "upstream" in fields:
        if "name" in fields:
            raise InvalidConfig(f"{place}.name is unknown. The name of a model is the key of its entry.")
        return read_fields(UpstreamEntry, {"name": name, **fields}, place, _OTHER_NAMES)
    return read_fields(EmbeddingFields, fields, place, _OTHER_NAMES).entry(name)


def named_entry(options: LoadOptions) -> EmbeddingEntry:
    """Return the entry of a model that `--model` names: it is served under its hub id or the name of its directory.

    Raises:
        UnsupportedOption: A revision or a cache directory of the hub is set for a local path.
    """
    found = identify(options.model)
    if isinstance(found, Location):
        HubOptions.of(options).require_none(found)
        return EmbeddingEntry(name=found.id, options=replace(options, model=found.path))
    model, entry = found
    return EmbeddingEntry(
        name=revised(model, options.revision),
        options=replace(options, model=model),
        aliases=entry.aliases if entry else (),
    )
