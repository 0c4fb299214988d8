"""MTEB: `EmbergemEncoder` is an encoder that `mteb.evaluate` scores."""

from collections.abc import Iterable
from typing import Any

from embergem.embedder import Embedder
from embergem.errors import UnsupportedOption
from embergem.integrations import Model, missing_package, task_or_none
from embergem.keywords import checked_class, require_known
from embergem.options import LoadKeywords
from embergem.tasks import Task
from embergem.types import Vectors

try:
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction
except ImportError as error:
    raise missing_package("mteb", "mteb") from error

_TASKS = {
    "BitextMining": Task.SEMANTIC_SIMILARITY,
    "Classification": Task.CLASSIFICATION,
    "Clustering": Task.CLUSTERING,
    "MultilabelClassification": Task.CLASSIFICATION,
    "PairClassification": Task.SEMANTIC_SIMILARITY,
    "STS": Task.SEMANTIC_SIMILARITY,
    "Summarization": Task.SEMANTIC_SIMILARITY,
}
"""Task of each of MTEB's task types that embeds all its texts alike."""


@checked_class
class EmbergemEncoder(AbsEncoder):
    """MTEB's `EncoderProtocol`, with the model's prompt for each of MTEB's tasks.

    The prompt is the one that the checkpoint names for the task, the task type or the prompt type, in MTEB's order.
    Without such a prompt it is that of the nearest `Task`, and without that one the text is embedded as it is. The
    results are stored under the fingerprint of the weights unless there is a `revision`.

    Args:
        model: As for `Embedder`, or an `Embedder`.
        revision: As for `Embedder`.
        dimensions: Cut vectors to this size; None is the full size.
        truncate: Cut texts above the token limit, with a `TruncationWarning`, as other encoders do.
        options: Options for loading the model, as for `Embedder`.

    Raises:
        UnsupportedOption: There are options beside an `Embedder`.

    Example:
        >>> from embergem.integrations.mteb import EmbergemEncoder
        >>> encoder = EmbergemEncoder("tests/data/goldens/gemma3_text")
        >>> encoder.mteb_model_meta.embed_dim, encoder.mteb_model_meta.max_tokens
        (96, 128)
    """

    def __init__(
        self,
        model: Model = None,
        revision: str | None = None,
        *,
        dimensions: int | None = None,
        truncate: bool = True,
        **options: Any,
    ) -> None:
        own = {"model", "dimensions", "truncate", *LoadKeywords.__annotations__}
        require_known("EmbergemEncoder", options, own)
        if revision is not None:
            options["revision"] = revision
        if isinstance(model, Embedder) and options:
            raise UnsupportedOption(
                f"{', '.join(options)}: this model is loaded already. Give its name instead, with these options."
            )
        self.model = model if isinstance(model, Embedder) else Embedder(model, **options)
        self.dimensions = dimensions
        self.truncate = truncate
        self.model_prompts = dict.fromkeys(self.model.tasks, "")  # only the names are used
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": self.model.model,
                "revision": revision or self.model.fingerprint,
                "max_tokens": self.model.limit,
                "embed_dim": dimensions or self.model.dimensions,
                "similarity_fn_name": ScoringFunction.COSINE,
            }
        )

    def encode(
        self,
        inputs: Iterable[dict[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        show_progress_bar: bool | None = None,
        precision: str = "float32",
        **options: Any,
    ) -> Vectors:
        """Return float32 (n, dimensions) for the texts of all batches. The engine chooses its own batch size.

        Raises:
            UnsupportedOption: The batches have no texts, or `precision` is not "float32".
        """
        if precision != "float32":
            raise UnsupportedOption(f"precision={precision!r} is not supported here; use 'float32'.", param="precision")
        texts: list[str] = []
        for batch in inputs:
            if "text" not in batch:
                raise UnsupportedOption(
                    f"The task {task_metadata.name} gives {', '.join(batch)} and no text. Embergem embeds texts only."
                )
            texts += batch["text"]
        return self.model.embed(
            texts,
            task=self.get_prompt_name(task_metadata, prompt_type)
            or task_or_none(self.model, _TASKS.get(task_metadata.type)),
            dimensions=self.dimensions,
            truncate=self.truncate,
            progress=show_progress_bar,
        )
