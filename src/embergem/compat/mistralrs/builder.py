"""The builder-style API: `await EmbeddingModelBuilder("…").build()`, then `await model.generate_embeddings(request)`.

Names are those of the Rust crate of mistral.rs, as far as they concern embeddings. `tables.EMBEDDING_MODEL_BUILDER`
lists the methods that are refused.
"""

import asyncio
import logging
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from embergem.async_embedder import run_in_thread
from embergem.compat.arguments import refused_method
from embergem.compat.mistralrs.models import ManagedModels
from embergem.compat.mistralrs.requests import (
    EmbeddingArchitecture,
    EmbeddingRequest,
    EmbeddingRequestBuilder,
    ModelDType,
    arithmetic,
    check_architecture,
)
from embergem.compat.mistralrs.tables import EMBEDDING_MODEL_BUILDER
from embergem.errors import EmptyInput, UnsupportedOption, renumbered_inputs
from embergem.hub.options import revised
from embergem.keywords import checked_class
from embergem.loader import load
from embergem.options import LoadOptions
from embergem.sdk.results import ResultCollector
from embergem.tasks import Task
from embergem.types import Vectors


@checked_class
class EmbeddingModelBuilder:
    """Collects the options of one model. Every method returns the builder itself.

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
        self._options = LoadOptions(model=model_id)
        self._task: str | None = None
        self._dimensions: int | None = None

    def with_task(self, task: Task | str) -> Self:
        """Set the task of texts whose request names none. Token ids are never changed."""
        self._task = str(task)
        return self

    def with_dimensions(self, dimensions: int) -> Self:
        """Set the size of vectors whose request names none."""
        self._dimensions = dimensions
        return self

    def with_dtype(self, dtype: ModelDType | str) -> Self:
        """Set the arithmetic: a `ModelDType`, or a name that `Embedder(dtype=)` takes, such as "int16"."""
        self._options = replace(self._options, dtype=arithmetic(dtype))
        return self

    def with_threads(self, threads: int) -> Self:
        """Set the largest number of threads to compute with."""
        self._options = replace(self._options, threads=threads)
        return self

    def with_loader_type(self, arch: EmbeddingArchitecture) -> Self:
        """Refuse a model of another family than this."""
        check_architecture(arch)
        self._options = replace(self._options, arch=arch.value)
        return self

    def with_tokenizer_json(self, path: str | Path) -> Self:
        """Use this tokenizer.json instead of the one in the checkpoint. The vectors are then in another space."""
        self._options = replace(self._options, tokenizer=path)
        return self

    def with_window(self, window: int) -> Self:
        """Use this sliding window instead of the one in config.json, for checkpoints whose window was damaged."""
        self._options = replace(self._options, window=window)
        return self

    def with_dense_from(self, model: str | Path) -> Self:
        """Take the dense layers from this model, for a checkpoint that lacks its own."""
        self._options = replace(self._options, dense_from=model)
        return self

    def allow_missing_dense(self) -> Self:
        """Accept a checkpoint without the dense layers of its kind. The vectors are then in another space."""
        self._options = replace(self._options, allow_missing_dense=True)
        return self

    def with_device(self, device: str) -> Self:
        """Set the device. This version has "cpu" only."""
        self._options = replace(self._options, device=device)
        return self

    def with_force_cpu(self) -> Self:
        """Compute on the CPU, as this version always does."""
        return self.with_device("cpu")

    def with_logging(self) -> Self:
        """Show log messages of embergem on stderr from level INFO on, such as a line for each model that is loaded."""
        logger = logging.getLogger("embergem")
        logger.setLevel(logging.INFO)
        if not logger.hasHandlers():
            logger.addHandler(logging.StreamHandler())
        return self

    def with_throughput_logging(self) -> Self:
        """Log texts and tokens per second at level INFO while the model computes, at most every five seconds.

        The logger is `embergem.engine.throughput`; `with_logging` shows it.
        """
        self._options = replace(self._options, throughput_logging=True)
        return self

    def with_token_source(self, source: str) -> Self:
        """Set the source of the hub's access token.

        "cache" (the default) is HF_TOKEN, or the token that `hf auth login` stored. The others are "none",
        "literal:TOKEN", "env:VARIABLE" and "path:FILE". The source is read when the hub is asked.

        Raises:
            UnsupportedOption: `source` has another form.
        """
        self._options = replace(self._options, token_source=source)
        return self

    def with_hf_revision(self, revision: str) -> Self:
        """Use this branch, tag or commit of the model on the hub. The model is then named `model_id@revision`."""
        self._options = replace(self._options, revision=revision)
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
        """Set the largest number of texts in one batch. Without it, a batch is bounded by its tokens only.

        Raises:
            UnsupportedOption: `count` is below 1.
        """
        if count < 1:
            raise UnsupportedOption(
                f"with_max_num_seqs({count}) is not possible. Give 1 or more, or leave it out.", param="max_num_seqs"
            )
        self._options = replace(self._options, max_batch_rows=count)
        return self

    @refused_method(EMBEDDING_MODEL_BUILDER)
    def with_topology(self, topology: object) -> Self: ...

    @refused_method(EMBEDDING_MODEL_BUILDER)
    def with_topology_from_path(self, path: str) -> Self: ...

    @refused_method(EMBEDDING_MODEL_BUILDER)
    def with_device_mapping(self, mapping: object) -> Self: ...

    def from_hf_cache_path(self, path: str | Path) -> Self:
        """Use this directory as the cache of huggingface_hub, instead of $HF_HOME/hub."""
        self._options = replace(self._options, hf_cache_path=path)
        return self

    @refused_method(EMBEDDING_MODEL_BUILDER)
    def write_uqff(self, path: str) -> Self: ...

    @refused_method(EMBEDDING_MODEL_BUILDER)
    def from_uqff(self, paths: object) -> Self: ...

    async def build(self) -> "EmbeddingModel":
        """Load the model without blocking the event loop.

        Raises:
            UnknownModel, LoadError, InsufficientMemory: The model cannot be loaded.
            UnsupportedOption: This engine does not have the dtype, device, window or number of threads; or a revision
                or cache is given for a model that is not on the hub; or the token source has no token.
        """
        return await MultiModelBuilder().add_model(self).build()


@checked_class
class MultiModelBuilder:
    """Collects several models for one `EmbeddingModel`. The first is the default without `with_default_model`.

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
        """Add a model under its id. `with_hf_revision` adds the revision to the id."""
        self._models.append((None, builder))
        return self

    def add_model_with_alias(self, alias: str, builder: EmbeddingModelBuilder) -> Self:
        """Add a model under `alias`, and under its id unless an earlier model has it.

        So one model can be loaded twice, for example with two tasks or dtypes.
        """
        self._models.append((alias, builder))
        return self

    def with_default_model(self, model_id: str) -> Self:
        """Set the model that answers requests which name none."""
        self._default = model_id
        return self

    async def build(self) -> "EmbeddingModel":
        """Load all models, one after the other, without blocking the event loop.

        Raises:
            EmptyInput: No model was added.
            UnknownModel, LoadError, InsufficientMemory: A model cannot be loaded.
            UnsupportedOption: Two models have the same name.
        """
        if not self._models:
            raise EmptyInput("MultiModelBuilder has no model. Add at least one with add_model.")
        return await run_in_thread(self._build, undo=lambda model: model._registry.close())

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


@checked_class
class EmbeddingModel(ManagedModels):
    """Loaded models that answer requests, made by the builders. Any number of asyncio tasks may use it at a time.

    `close`, or leaving an `async with` block, frees the models.
    """

    def __init__(self) -> None:
        super().__init__()
        self._choices: dict[str, tuple[str | None, int | None]] = {}

    async def generate_embeddings(self, request: EmbeddingRequest | EmbeddingRequestBuilder) -> Vectors:
        """Embed the inputs of a request, or of a request builder, with the default model.

        A `TruncationWarning` lists the inputs that were cut, if the request permits cutting.

        Returns:
            float32 array (n, dimensions) in the order of the inputs.

        Raises:
            InvalidRequest: The inputs cannot be embedded as they stand.
        """
        return await self.generate_embeddings_with_model(request, None)

    async def generate_embeddings_with_model(
        self, request: EmbeddingRequest | EmbeddingRequestBuilder, model_id: str | None
    ) -> Vectors:
        """Embed with the model of this name; None is the default model. An unloaded model is loaded again."""
        built = request.build() if isinstance(request, EmbeddingRequestBuilder) else request
        if not isinstance(built, EmbeddingRequest):
            raise TypeError(f"request is of type {type(built).__name__}. Give an EmbeddingRequest or its builder.")
        return await self._embed(built, model_id)

    async def generate_embedding(self, prompt: str) -> Vectors:
        """Embed one text with the default model. Returns a float32 array (dimensions,)."""
        return await self.generate_embedding_with_model(prompt, None)

    async def generate_embedding_with_model(self, prompt: str, model_id: str | None) -> Vectors:
        """Embed one text with the model of this name. Returns a float32 array (dimensions,)."""
        vector: Vectors = (await self._embed(EmbeddingRequest(prompt), model_id))[0]
        return vector

    async def unload_model(self, model_id: str) -> None:
        """Free the memory of a model once its requests are done. The next request loads it again."""
        await run_in_thread(partial(self._registry.unload, model_id))

    async def reload_model(self, model_id: str) -> None:
        """Load a model again from its files. Requests that arrive meanwhile are answered by the previous copy."""
        await run_in_thread(partial(self._registry.reload, model_id))

    async def remove_model(self, model_id: str) -> None:
        """Remove a model.

        Raises:
            UnknownModel: No model has this name.
            UnsupportedOption: It is the last model.
        """
        await run_in_thread(partial(self._remove, model_id))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await run_in_thread(self.close)

    def _include(self, alias: str | None, builder: EmbeddingModelBuilder) -> None:
        name = alias or revised(builder.model_id, builder._options.revision)
        self._add(partial(load, builder._options), name, builder.model_id)
        self._choices[name] = (builder._task, builder._dimensions)

    async def _embed(self, request: EmbeddingRequest, model_id: str | None) -> Vectors:
        submitted = await run_in_thread(partial(self._submit, request, model_id), undo=_cancel)
        try:
            collector = ResultCollector(submitted.limit)
            for places, future in submitted.parts:
                with renumbered_inputs(places):
                    collector.add(places, await asyncio.wrap_future(future))
            return collector.vectors()
        finally:
            _cancel(submitted)

    def _submit(self, request: EmbeddingRequest, model_id: str | None) -> "_Submitted":
        with self._use(model_id) as engine:
            task, dimensions = self._choices[self._name(model_id)]
            submitted = _Submitted([], engine.limit)
            try:
                for places, part in request.requests(task, dimensions):
                    with renumbered_inputs(places):
                        submitted.parts.append((places, engine.submit(part)))
            except BaseException:
                _cancel(submitted)
                raise
            return submitted


class _Submitted(NamedTuple):
    """The submitted parts of a request, each with the indices of its inputs, and the token limit of the model."""

    parts: list[tuple[list[int], Future[Any]]]
    limit: int


def _cancel(submitted: _Submitted) -> None:
    """Cancel the parts that are not done."""
    for _, future in submitted.parts:
        future.cancel()
