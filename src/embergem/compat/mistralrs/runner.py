"""The selector-style API: name the kind of model with `Which`, make a `Runner`, send it requests.

The names and argument lists are those of mistral.rs' Python package as far as they concern embeddings, so that code
written for it runs after changing the import. An argument without meaning on this engine warns when it is used, or is
refused with the reason; none is swallowed.
"""

import inspect
from functools import partial

from embergem.compat.arguments import check_arguments
from embergem.compat.mistralrs.models import Managed, gather
from embergem.compat.mistralrs.requests import EmbeddingRequest, Which, arithmetic, check_selector
from embergem.compat.mistralrs.tables import RUNNER
from embergem.engine import Engine
from embergem.errors import UnsupportedOption
from embergem.hub.options import check_token_source, revised
from embergem.sdk.backend import load_engine


class Runner(Managed):
    """Models, ready for requests; the first is the default.

    Args:
        which: `Which.Embedding(...)`.
        token_source: Where the hub's access token comes from, for this model and those added later; as for `Embedder`.
        max_seqs, …: The other arguments of the interface. Scheduling, cache and paged-attention settings change
            nothing about an embedding and warn with `IgnoredOptionWarning` when they differ from their defaults;
            those that ask for something embergem does not do are refused.

    Raises:
        ValueError: The model cannot be had or an argument is refused. (Every error of embergem that concerns the
            caller's input is a ValueError.)
        TypeError: `which` is no `Which.Embedding`, or an argument that the interface does not have.

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
        self._token_source = check_token_source(token_source)
        self.add_model(which)

    def add_model(self, which: "Which.Embedding", alias: str | None = None) -> None:
        """Load another model beside the first, reached by `model_id=`: its id as written, or `alias`.

        A revision is part of the id: `org/name@v1`.

        With an alias it is reached by its id, too, unless another has that: so one model can be there twice, in two
        dtypes, say.

        Raises:
            ValueError: The model cannot be had, or the name is taken.
        """
        which = check_selector(which)
        name = alias or revised(which.model_id, which.revision)
        self._add(partial(_load, which, self._token_source), name, which.model_id)

    def send_embedding_request(self, request: EmbeddingRequest, model_id: str | None = None) -> list[list[float]]:
        """Embed the inputs of `request`, in order; one list of floats each.

        Args:
            request: What to embed. Inputs that it permits to cut, and that were cut, bring a `TruncationWarning`.
            model_id: Which model; None is the default one. An unloaded model is loaded again.

        Raises:
            ValueError: No model is called `model_id`, or an input cannot be embedded.
        """
        if not isinstance(request, EmbeddingRequest):
            raise TypeError(f"request is an EmbeddingRequest, not {type(request).__name__}")
        with self._use(model_id) as engine:
            answers = [(places, engine.embed(part)) for places, part in request.requests()]
            vectors: list[list[float]] = gather(answers, engine.limit).tolist()
        return vectors

    def unload_model(self, model_id: str) -> None:
        """Free a model's memory, once its requests are done. The next request loads it again."""
        self._registry.unload(model_id)

    def reload_model(self, model_id: str) -> None:
        """Load a model anew, as its files are now; a loaded one is exchanged without dropping a request."""
        self._registry.reload(model_id)

    def remove_model(self, model_id: str) -> None:
        """Forget a model.

        Raises:
            ValueError: It is unknown, or the last one.
        """
        self._remove(model_id)

    def send_re_isq(self, dtype: str, model_id: str | None = None) -> None:
        """Refuse: weights are packed for one dtype when they are loaded.

        Raises:
            UnsupportedOption: Always; it names the way to another dtype.
        """
        raise UnsupportedOption(
            f"a loaded model is not quantised again (asked for {dtype!r}): add it with the dtype you want, "
            "add_model(Which.Embedding(..., dtype=...), alias=...)",
            param="dtype",
        )


def _load(which: "Which.Embedding", token_source: str) -> Engine:
    return load_engine(
        which.model_id,
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
