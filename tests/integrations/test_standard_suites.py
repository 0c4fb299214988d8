"""The suites that other libraries ship for the classes that extend them, run on the tiny model.

LlamaIndex and Chroma ship none for embedding models.
"""

from pathlib import Path

import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests
from sklearn.exceptions import SkipTestWarning
from sklearn.utils import estimator_checks, get_tags

from embergem.integrations.langchain import EmbergemEmbeddings
from embergem.integrations.sklearn import EmbergemVectorizer

TINY = str(Path(__file__).parents[1] / "data/goldens/gemma3_text")


def test_scikit_learn_knows_that_the_input_is_texts():
    tags = get_tags(EmbergemVectorizer(TINY))
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert not tags.requires_fit
    # check_estimator has numbers only, so it leaves out its checks for estimators of texts, such as HashingVectorizer.
    with pytest.warns(SkipTestWarning, match="EmbergemVectorizer which requires input"):
        estimator_checks.check_estimator(EmbergemVectorizer(TINY))


@pytest.mark.parametrize(
    "name",
    [
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_get_params_invariance",
        "check_mixin_order",
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_set_params",
        "check_valid_tag_types",
    ],
)
def test_the_checks_of_scikit_learn_that_need_no_input(name):
    getattr(estimator_checks, name)("EmbergemVectorizer", EmbergemVectorizer(TINY))


@pytest.fixture
def anyio_backend():
    """The event loop of LangChain's asynchronous tests."""
    return "asyncio"


class LangChain:
    """The class under test, for both suites of LangChain."""

    embeddings_class = EmbergemEmbeddings
    embedding_model_params = {"model": TINY}  # noqa: RUF012 - an attribute of LangChain's class


class TestLangChainUnit(LangChain, EmbeddingsUnitTests):
    pass


@pytest.mark.anyio
class TestLangChainIntegration(LangChain, EmbeddingsIntegrationTests):
    pass
