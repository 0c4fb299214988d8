"""The builder style: `model = await EmbeddingModelBuilder("…").build()`, `await model.generate_embeddings(request)`.

The names are those of mistral.rs' Rust crate as far as they concern embeddings. An option without meaning here is
refused with the reason when it is called; none is swallowed.
"""

import asyncio
import logging
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from embergem.compat.arguments import refused_method
from embergem.compat.mistralrs.models import Managed, gather
from embergem.compat.mistralrs.requests import (
    EmbeddingArchitecture,
    EmbeddingRequest,
    EmbeddingRequestBuilder,
    ModelDType,
    arithmetic,
)
from embergem.compat.mistralrs.tables import EMBEDDING_MODEL_BUILDER
from embergem.engine import Engine
from embergem.errors import EmptyInput, UnsupportedOption
from embergem.hub.options import check_token_source, revised
from embergem.sdk.backend import LoadOptions, load_engine
from embergem.sdk.off_loop import off_loop
from embergem.tasks import Task
from embergem.types import Vectors


class EmbeddingModelBuilder:
    """Says which model, and how; every method returns the builder itself.

    Args:
        model_id: Hub id, alias or directory.

    Example:
        >>> import asyncio
        >>> from embergem import EmbeddingModelBuilder, EmbeddingRequest
        >>> async def main():
        ...     model = await EmbeddingModelBuilder("tests/data/goldens/gemma3_text").build()
        ...     request = EmbeddingRequest.builder().add_prompt("task: search result | query: What is graphene?")
        ...     return await model.generate_embeddings(request)
        >>> asyncio.run(main()).shape
        (1, 96)
    """

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self._options: LoadOptions = {}
        self._max_num_seqs: int | None = None
        self._throughput_logging = False
        self._task: str | None = None
        self._dimensions: int | None = None

    def with_task(self, task: Task | str) -> Self:
        """Put the model's prompt for this task around texts whose request names none; token ids stay as they are."""
        self._task = str(task)
        return self

    def with_dimensions(self, dimensions: int) -> Self:
        """Cut vectors to this size where a request names none."""
        self._dimensions = dimensions
        return self

    def with_dtype(self, dtype: ModelDType | str) -> Self:
        """Choose the arithmetic: a `ModelDType`, or a name that `Embedder(dtype=)` takes, such as "int16"."""
        self._options["dtype"] = arithmetic(dtype)
        return self

    def with_threads(self, threads: int) -> Self:
        """Compute with so many threads at most."""
        self._options["threads"] = threads
        return self

    def with_loader_type(self, arch: EmbeddingArchitecture) -> Self:
        """Refuse a model of another family than this."""
        self._options["arch"] = arch.value
        return self

    def with_tokenizer_json(self, path: str | Path) -> Self:
        """Use this tokenizer.json instead of the checkpoint's; the vectors are then a space of their own."""
        self._options["tokenizer"] = path
        return self

    def with_window(self, window: int) -> Self:
        """Use this sliding window instead of the one in config.json, where that was damaged."""
        self._options["window"] = window
        return self

    def with_dense_from(self, model: str | Path) -> Self:
        """Take the dense layers that the files lack from this model."""
        self._options["dense_from"] = model
        return self

    def allow_missing_dense(self) -> Self:
        """Take a model without the dense layers of its kind; its vectors are a space of their own."""
        self._options["allow_missing_dense"] = True
        return self

    def with_device(self, device: str) -> Self:
        """Choose the device; this version has "cpu"."""
        self._options["device"] = device
        return self

    def with_force_cpu(self) -> Self:
        """Compute on the cpu."""
        return self.with_device("cpu")

    def with_logging(self) -> Self:
        """Let embergem's log messages appear on stderr, from level INFO on."""
        logger = logging.getLogger("embergem")
        logger.setLevel(logging.INFO)
        if not logger.hasHandlers():
            logger.addHandler(logging.StreamHandler())
        return self

    def with_throughput_logging(self) -> Self:
        """Log texts and tokens a second while there is work, at level INFO, every five seconds at most.

        The logger is `embergem.engine.throughput`; `with_logging` shows it.
        """
        self._throughput_logging = True
        return self

    def with_token_source(self, source: str) -> Self:
        """Say where the hub's access token comes from.

        "cache", the default, is HF_TOKEN or what `hf auth login` has kept; there is "none", "literal:TOKEN",
        "env:VARIABLE" and "path:FILE", too. It is looked at when the hub is asked.

        Raises:
            UnsupportedOption: None of these.
        """
        self._options["token_source"] = check_token_source(source)
        return self

    def with_hf_revision(self, revision: str) -> Self:
        """Take this branch, tag or commit of the model on the hub; the model is then called `model_id@revision`."""
        self._options["revision"] = revision
        return self

    @refused_method(EMBEDDING_MODEL_BUILDER)
    def with_isq(self, kind: str) -> Self: ...

    @refused_method(EMBEDDING_MODEL_BUILDER)
    def with_auto_isq(self, bits: int) -> Self: ...

    @refused_method(EMBEDDING_MODEL_BUILDER)
    def with_imatrix(self, path: str) -> Self: ...

    @refused_method(EMBEDDING_MODEL_BUILDER)
    def with_calibration_file(self, path: str) -> Self: ...

    def with_max_num_seqs(self, count: int) -> Self:
        """Compute so many texts in one batch at most. Without it only their tokens bound a batch.

        Raises:
            UnsupportedOption: It is below 1.
        """
        if count < 1:
            raise UnsupportedOption(
                f"with_max_num_seqs({count}) is not possible; give 1 or more, or leave it out", param="max_num_seqs"
            )
        self._max_num_seqs = count
        return self

    @refused_method(EMBEDDING_MODEL_BUILDER)
    def with_topology(self, topology: object) -> Self: ...

    @refused_method(EMBEDDING_MODEL_BUILDER)
    def with_topology_from_path(self, path: str) -> Self: ...

    @refused_method(EMBEDDING_MODEL_BUILDER)
    def with_device_mapping(self, mapping: object) -> Self: ...

    def from_hf_cache_path(self, path: str | Path) -> Self:
        """Use this cache directory of the hub's library, in place of its own ($HF_HOME/hub)."""
        self._options["hf_cache_path"] = path
        return self

    @refused_method(EMBEDDING_MODEL_BUILDER)
    def write_uqff(self, path: str) -> Self: ...

    @refused_method(EMBEDDING_MODEL_BUILDER)
    def from_uqff(self, paths: object) -> Self: ...

    async def build(self) -> "EmbeddingModel":
        """Load the model without holding the event loop.

        Raises:
            UnknownModel, LoadError, InsufficientMemory: It cannot be had.
            UnsupportedOption: A dtype, device, window or number of threads that this engine does not have, a revision
                or a cache for a model that is not the hub's, or a token source without a token.
        """
        return await MultiModelBuilder().add_model(self).build()

    def _load(self) -> Engine:
        return load_engine(
            self.model_id,
            max_batch_rows=self._max_num_seqs,
            throughput_logging=self._throughput_logging,
            **self._options,
        )


class MultiModelBuilder:
    """Several models behind one `EmbeddingModel`; the first is the default unless another is named.

    Example:
        >>> import asyncio
        >>> from embergem import EmbeddingModelBuilder, MultiModelBuilder
        >>> async def main():
        ...     builder = MultiModelBuilder()
        ...     builder.add_model_with_alias("gemma", EmbeddingModelBuilder("tests/data/goldens/gemma3_text"))
        ...     builder.add_model_with_alias("bert", EmbeddingModelBuilder("tests/data/goldens/bert_mean"))
        ...     model = await builder.with_default_model("bert").build()
        ...     return [len(await model.generate_embedding_with_model("a", name)) for name in (None, "gemma")]
        >>> asyncio.run(main())
        [64, 96]
    """

    def __init__(self) -> None:
        self._models: list[tuple[str | None, EmbeddingModelBuilder]] = []
        self._default: str | None = None

    def add_model(self, builder: EmbeddingModelBuilder) -> Self:
        """Add a model, reached by its id, to which `with_hf_revision` adds the revision."""
        self._models.append((None, builder))
        return self

    def add_model_with_alias(self, alias: str, builder: EmbeddingModelBuilder) -> Self:
        """Add a model, reached by `alias`, and by its id unless one before it is.

        So one model can be there twice, with two tasks or dtypes.
        """
        self._models.append((alias, builder))
        return self

    def with_default_model(self, model_id: str) -> Self:
        """Ask this model when a request names none."""
        self._default = model_id
        return self

    async def build(self) -> "EmbeddingModel":
        """Load all models, one after the other, without holding the event loop.

        Raises:
            EmptyInput: No model was added.
            UnknownModel, LoadError, InsufficientMemory: One cannot be had.
            UnsupportedOption: Two have the same name.
        """
        if not self._models:
            raise EmptyInput("MultiModelBuilder needs at least one model; add one with add_model")
        return await off_loop(self._build, undo=lambda model: model._registry.close())

    def _build(self) -> "EmbeddingModel":
        model = EmbeddingModel()
        try:
            for alias, builder in self._models:
                model._include(alias, builder)
            if self._default is not None:
                model.set_default_model_id(self._default)
        except BaseException:
            model._registry.close()
            raise
        return model


class EmbeddingModel(Managed):
    """What the builders build: models that answer requests. Any number of tasks may use it at a time.

    Closing it, or leaving it as a context (`async with`), frees its models.
    """

    def __init__(self) -> None:
        super().__init__()
        self._choices: dict[str, tuple[str | None, int | None]] = {}

    async def generate_embeddings(self, request: EmbeddingRequest | EmbeddingRequestBuilder) -> Vectors:
        """Embed the inputs of a request, or of its builder, with the default model.

        Inputs that the request permits to cut, and that were cut, bring a `TruncationWarning`.

        Returns:
            float32 array (n, dimensions) in the order of the inputs.

        Raises:
            InvalidRequest: The inputs cannot be embedded as they stand.
        """
        return await self.generate_embeddings_with_model(request, None)

    async def generate_embeddings_with_model(
        self, request: EmbeddingRequest | EmbeddingRequestBuilder, model_id: str | None
    ) -> Vectors:
        """Embed with the model of this name; None is the default one. An unloaded model is loaded again."""
        built = request.build() if isinstance(request, EmbeddingRequestBuilder) else request
        if not isinstance(built, EmbeddingRequest):
            raise TypeError(f"request is an EmbeddingRequest or its builder, not {type(built).__name__}")
        return await self._embed(built, model_id)

    async def generate_embedding(self, prompt: str) -> Vectors:
        """Embed one text with the default model: (dimensions,) float32."""
        return await self.generate_embedding_with_model(prompt, None)

    async def generate_embedding_with_model(self, prompt: str, model_id: str | None) -> Vectors:
        """Embed one text with the model of this name: (dimensions,) float32."""
        vector: Vectors = (await self._embed(EmbeddingRequest(prompt), model_id))[0]
        return vector

    async def unload_model(self, model_id: str) -> None:
        """Free a model's memory, once its requests are done. The next request loads it again."""
        await off_loop(partial(self._registry.unload, model_id))

    async def reload_model(self, model_id: str) -> None:
        """Load a model anew, as its files are now; a loaded one is exchanged without dropping a request."""
        await off_loop(partial(self._registry.reload, model_id))

    async def remove_model(self, model_id: str) -> None:
        """Forget a model.

        Raises:
            UnknownModel: There is none of this name.
            UnsupportedOption: It is the last one.
        """
        await off_loop(partial(self._remove, model_id))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await off_loop(self.close)

    def _include(self, alias: str | None, builder: EmbeddingModelBuilder) -> None:
        name = alias or revised(builder.model_id, builder._options.get("revision"))
        self._add(builder._load, name, builder.model_id)
        self._choices[name] = (builder._task, builder._dimensions)

    async def _embed(self, request: EmbeddingRequest, model_id: str | None) -> Vectors:
        started = await off_loop(partial(self._submit, request, model_id), undo=_cancel)
        try:
            answers = [(places, await asyncio.wrap_future(future)) for places, future in started.parts]
            return gather(answers, started.limit)
        finally:
            _cancel(started)

    def _submit(self, request: EmbeddingRequest, model_id: str | None) -> "_Started":
        with self._use(model_id) as engine:
            task, dimensions = self._choices[self._name(model_id)]
            parts = [(places, engine.submit(part)) for places, part in request.requests(task, dimensions)]
            return _Started(parts, engine.limit)


class _Started(NamedTuple):
    """The parts of a request in work, each with the places of its inputs, and the limit they are held to."""

    parts: list[tuple[list[int], Future[Any]]]
    limit: int


def _cancel(started: _Started) -> None:
    """Stop what nobody waits for any more; what is done is not changed."""
    for _, future in started.parts:
        future.cancel()
