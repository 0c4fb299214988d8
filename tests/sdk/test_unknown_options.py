"""Every public callable refuses a misspelt option, and suggests the one that was meant."""

import asyncio
import inspect

import pytest
from public import PUBLIC, callables, members, require_suggestions

import embergem
from embergem.compat.sentence_transformers.model import SentenceTransformer
from embergem.errors import UnknownOption
from embergem.keywords import checked_class, checked_keywords
from embergem.options import LoadKeywords, LoadOptions

MODULES = [module for module in PUBLIC if not module.startswith("embergem.integrations.")]
"""The integrations are tested in `make test-integrations`, which has their libraries."""
FOUND = {name: (function, options) for name, function, options in (*callables(MODULES), *members(LoadOptions))}


@pytest.mark.parametrize("name", FOUND)
def test_a_misspelt_option_is_refused_with_the_one_that_was_meant(name):
    require_suggestions(*FOUND[name])


def test_the_public_classes_are_covered():
    assert len(FOUND) > 90
    expected = {"Embedder.__init__", "Embedder.embed", "AsyncEmbedder.load", "Client.__init__", "Runner.__init__"}
    expected |= {"create_app", "semantic_search", "SentenceTransformer.encode", "Client.embed"}
    assert expected | {"Which.Embedding.__init__", "EmbeddingModelBuilder.with_task"} <= set(FOUND)
    assert set(FOUND["Embedder.__init__"][1]) == {*LoadKeywords.__annotations__, "model"}


@pytest.mark.parametrize(
    ("options", "meant"),
    [({"dtyp": "int16"}, "dtype"), ({"revison": "main"}, "revision"), ({"Threads": 1}, "threads"), ({"foo": 1}, None)],
)
def test_options_of_a_model_that_does_not_exist(tiny, options, meant):
    words = f"Did you mean {meant!r}" if meant else "It has: allow_missing_dense, arch, dense_from, device,"
    for make in (embergem.Embedder, lambda model, **given: asyncio.run(embergem.AsyncEmbedder.load(model, **given))):
        for model in (tiny, "http://127.0.0.1:1", object()):
            with pytest.raises(UnknownOption, match=words):
                make(model, **options)


def test_sentence_transformers_suggests_too(tiny):
    with pytest.raises(UnknownOption, match=r"'truncate_dims'\. Did you mean 'truncate_dim'\?"):
        SentenceTransformer(tiny, truncate_dims=3)
    model = SentenceTransformer(tiny)
    for encode in (model.encode_query, model.encode_document):
        with pytest.raises(UnknownOption, match=r"'prompt_nam'\. Did you mean 'prompt_name'\?"):
            encode("a", prompt_nam="query")


def test_an_unknown_option_is_a_type_error_and_an_error_of_embergem():
    with pytest.raises(TypeError) as caught:
        LoadOptions(dtyp="int8")
    assert isinstance(caught.value, embergem.EmbergemError)
    assert (caught.value.code, caught.value.status) == ("unsupported_option", 400)


def test_the_check_keeps_what_python_knows_of_a_function():
    @checked_class
    class Example:
        """Doc."""

        def __init__(self, size: int = 1, **rest: object) -> None:
            self.size = size

        async def later(self, when: float = 0.0) -> float:
            """Doc of later."""
            return when

        @classmethod
        def of(cls, size: int) -> "Example":
            return cls(size)

    assert Example(2, anything=1).size == 2  # a function with any options checks them itself
    assert Example.of(size=3).size == 3
    assert inspect.iscoroutinefunction(Example.later)
    assert asyncio.run(Example().later(when=2.0)) == 2.0
    assert (Example.later.__doc__, str(inspect.signature(Example.later))) == (
        "Doc of later.",
        "(self, when: float = 0.0) -> float",
    )
    with pytest.raises(UnknownOption, match=r"^f has no option 'x'\. It has none\.$"):
        checked_keywords(lambda: None, "f")(x=1)
