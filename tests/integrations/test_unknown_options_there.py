"""Every public callable of the integrations refuses a misspelt option, and suggests the one that was meant."""

import pytest
from public import PUBLIC, callables, require_suggestions

from embergem.errors import UnknownOption
from embergem.options import LoadKeywords

FOUND = {
    name: (function, options)
    for name, function, options in callables(module for module in PUBLIC if module.startswith("embergem.integrations."))
}


@pytest.mark.parametrize("name", FOUND)
def test_a_misspelt_option_is_refused_with_the_one_that_was_meant(name):
    require_suggestions(*FOUND[name])


def test_the_classes_are_covered():
    expected = {"EmbergemVectorizer", "EmbergemEmbedding", "EmbergemEmbeddings", "EmbergemEmbeddingFunction"}
    assert {f"{name}.__init__" for name in expected} | {"to_arrow", "embed_column"} <= set(FOUND)


def test_options_of_loading_are_checked_too(tiny):
    from embergem.integrations.llama_index import EmbergemEmbedding
    from embergem.integrations.mteb import EmbergemEncoder

    for cls in (EmbergemEmbedding, EmbergemEncoder):
        require_suggestions(cls, sorted(LoadKeywords.__annotations__))
    with pytest.raises(UnknownOption, match="Did you mean 'embed_batch_size'"):
        EmbergemEmbedding(str(tiny), embed_batchsize=3)


def test_lancedb_creates_no_function_with_a_misspelt_field(tiny):
    from lancedb.embeddings import get_registry

    import embergem.integrations.lancedb  # noqa: F401 - registers the function

    with pytest.raises(UnknownOption, match=r"EmbergemFunction has no option 'dimension'\. Did you mean 'dimensions'"):
        get_registry().get("embergem").create(model=str(tiny), dimension=64)
