"""scikit-learn: `EmbergemVectorizer` turns texts into features, alone or in a `Pipeline`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np

from embergem.embedder import Embedder
from embergem.integrations import missing_package, shared_embedder, task_or_none
from embergem.keywords import checked_class
from embergem.types import Vectors

try:
    from sklearn.base import BaseEstimator, TransformerMixin
except ImportError as error:
    raise missing_package("scikit-learn", "sklearn") from error


@checked_class
class EmbergemVectorizer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Transformer from texts to vectors. `fit` learns nothing; the model is loaded at its first use.

    Args:
        model: Hub id, alias, directory or server address; None is the default model.
        task: Task whose prompt is put around the texts, such as "classification" or "clustering". It is left out for a
            model without that prompt. None is no prompt.
        dimensions: Cut vectors to this size; None is the full size.
        truncate: Cut texts above the token limit, with a `TruncationWarning`, instead of refusing them.
        dtype: As for `Embedder`.

    Example:
        >>> from embergem.integrations.sklearn import EmbergemVectorizer
        >>> EmbergemVectorizer("tests/data/goldens/gemma3_text").fit_transform(["a", "b"]).shape
        (2, 96)
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        task: str | None = "classification",
        dimensions: int | None = None,
        truncate: bool = False,
        dtype: str | None = None,
    ) -> None:
        self.model = model
        self.task = task
        self.dimensions = dimensions
        self.truncate = truncate
        self.dtype = dtype

    def __sklearn_tags__(self) -> Any:
        """Declare to scikit-learn that `X` is texts and that `transform` needs no `fit`."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        return tags

    def fit(self, X: Iterable[str], y: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Load the model."""
        self.n_features_out_ = self.dimensions or self._embedder().dimensions
        return self

    def transform(self, X: Iterable[str]) -> Vectors:  # noqa: N803 - scikit-learn's name
        """Return float32 (n, dimensions) for n texts."""
        embedder = self._embedder()
        task = task_or_none(embedder, self.task)
        return embedder.embed(list(X), task=task, dimensions=self.dimensions, truncate=self.truncate)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray[Any, Any]:
        """Return the names of the features."""
        width = self.dimensions or self._embedder().dimensions
        return np.array([f"embergem{index}" for index in range(width)], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def _embedder(self) -> Embedder:
        return shared_embedder(None if self.model is None else str(self.model), self.dtype)
