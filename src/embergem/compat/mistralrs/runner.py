"""The selector-style API: `Runner(which=Which.Embedding(...))`, then `send_embedding_request`.

Names and argument lists are those of the Python package of mistral.rs, as far as they concern embeddings. Code that was
written for it runs after changing the import. `tables.RUNNER` lists the arguments that are refused or ignored.
"""

import inspect
from functools import partial

from embergem.compat.arguments import check_arguments
from embergem.compat.mistralrs.models import ManagedModels
from embergem.compat.mistralrs.requests import EmbeddingRequest, Which, arithmetic, check_selector
from embergem.compat.mistralrs.tables import RUNNER
from embergem.errors import UnsupportedOption, renumbered_inputs
from embergem.hub.options import revised
from embergem.keywords import checked_class
from embergem.loader import load
from embergem.options import LoadOptions
from embergem.sdk.results import ResultCollector


@checked_class
class Runner(ManagedModels):
    """Loaded models that answer requests. The first model is the default.

    Args:
        which: `Which.Embedding(...)`.
        token_source: Source of the hub's access token, for this model and for models added later; see `Embedder`.
        max_seqs, …: The other arguments of the interface. Scheduling, cache and paged-attention settings change
            nothing about an embedding; they issue an `IgnoredOptionWarning` if they differ from their defaults.
            Arguments that embergem cannot honour raise `UnsupportedOption`. docs/compatibility.md lists both.

    Raises:
        ValueError: The model cannot be loaded, or an argument is refused. Every embergem error about the caller's
            input is a ValueError.
        TypeError: `which` is not a `Which.Embedding`, or the interface has no such argument.

    Example:
        >>> from embergem import EmbeddingArchitecture, EmbeddingRequest, Runner, Which
        >>> which = Which.Embedding("tests/data/goldens/gemma3_text", arch=EmbeddingArchitecture.EmbeddingGemma)
        >>> runner = Runner(which=which)
        >>> [vector] = runner.send_embedding_request(EmbeddingRequest(input="What is graphene?"))
        >>> len(vector)
        96
    """

    def __init__(
        self,
        which: "Which.Embedding",
        max_seqs: int = 16,
        no_kv_cache: bool = False,
        prefix_cache_n: int | None = 16,
        token_source: str = "cache",
        mtp_model: str | None = None,
        mtp_n_predict: int | None = None,
        chat_template: str | None = None,
        jinja_explicit: str | None = None,
        num_device_layers: list[str] | None = None,
        in_situ_quant: str | None = None,
        anymoe_config: object = None,
        pa_gpu_mem: int | None = None,
        pa_gpu_mem_usage: float | None = None,
        pa_ctxt_len: int | None = None,
        pa_blk_size: int | None = None,
        pa_cache_type: object = None,
        no_paged_attn: bool = False,
        paged_attn: bool = False,
        seed: int | None = None,
        enable_search: bool = False,
        search_embedding_model: object = None,
        search_callback: object = None,
        tool_callbacks: object = None,
        mcp_client_config: object = None,
        code_execution_config: object = None,
        shell_config: object = None,
    ) -> None:
        arguments = locals().copy()  # the first statement, so that it holds the arguments and nothing else
        which = check_selector(which)
        check_arguments("Runner", arguments, _DEFAULTS, RUNNER)
        super().__init__()
        self._token_source = token_source
        self.add_model(which)

    def add_model(self, which: "Which.Embedding", alias: str | None = None) -> None:
        """Load another model. Requests reach it by `model_id=`, which is `alias` or its id as written.

        A revision is part of the id: `org/name@v1`. A model with an alias is reachable by its id too, unless another
        model has that id. So one model can be loaded twice, for example with two dtypes.

        Raises:
            ValueError: The model cannot be loaded, or the name is taken.
        """
        which = check_selector(which)
        name = alias or revised(which.model_id, which.revision)
        self._add(partial(load, _options(which, self._token_source)), name, which.model_id)

    def send_embedding_request(self, request: EmbeddingRequest, model_id: str | None = None) -> list[list[float]]:
        """Embed the inputs of `request`. Returns one list of floats per input, in order.

        Args:
            request: The inputs. A `TruncationWarning` lists the inputs that were cut.
            model_id: Name of the model; None is the default model. An unloaded model is loaded again.

        Raises:
            ValueError: No model is called `model_id`, or an input cannot be embedded.
        """
        if not isinstance(request, EmbeddingRequest):
            raise TypeError(f"request is of type {type(request).__name__}. Give an EmbeddingRequest.")
        with self._use(model_id) as engine:
            collector = ResultCollector(engine.limit)
            for places, part in request.requests():
                with renumbered_inputs(places):
                    collector.add(places, engine.embed(part))
            vectors: list[list[float]] = collector.vectors().tolist()
        return vectors

    def unload_model(self, model_id: str) -> None:
        """Free the memory of a model once its requests are done. The next request loads it again."""
        self._registry.unload(model_id)

    def reload_model(self, model_id: str) -> None:
        """Load a model again from its files. Requests that arrive meanwhile are answered by the previous copy."""
        self._registry.reload(model_id)

    def remove_model(self, model_id: str) -> None:
        """Remove a model.

        Raises:
            ValueError: No model has this name, or it is the last model.
        """
        self._remove(model_id)

    def send_re_isq(self, dtype: str, model_id: str | None = None) -> None:
        """Raise `UnsupportedOption`: weights are packed for one dtype when they are loaded.

        Raises:
            UnsupportedOption: Always. The message says how to load the model with another dtype.
        """
        raise UnsupportedOption(
            f"a loaded model cannot be quantised again to {dtype!r}. Add it a second time with the dtype you want: "
            "add_model(Which.Embedding(..., dtype=...), alias=...).",
            param="dtype",
        )


def _options(which: "Which.Embedding", token_source: str) -> LoadOptions:
    return LoadOptions(
        model=which.model_id,
        arch=which.arch and which.arch.value,
        dtype=arithmetic(which.dtype),
        tokenizer=which.tokenizer_json,
        window=which.window,
        dense_from=which.dense_from,
        allow_missing_dense=which.allow_missing_dense,
        revision=which.revision,
        hf_cache_path=which.hf_cache_path,
        token_source=token_source,
    )


_DEFAULTS = {name: argument.default for name, argument in inspect.signature(Runner).parameters.items()}
