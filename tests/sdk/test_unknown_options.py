"""Every public callable refuses a misspelt option, and suggests the one that was meant."""

import asyncio
import inspect

import pytest

import embergem
from embergem.compat.sentence_transformers.model import SentenceTransformer
from embergem.errors import UnknownOption
from embergem.keywords import checked_class, checked_keywords, known_keywords
from embergem.options import LoadKeywords, LoadOptions

CLASSES = [
    *(thing for name in embergem.__all__ if inspect.isclass(thing := getattr(embergem, name))),
    embergem.Which.Embedding,
    LoadOptions,
    SentenceTransformer,
]
NOT_CALLED = (embergem.EmbergemError, embergem.TruncationWarning, embergem.Ranked, embergem.Which)
"""Classes of which embergem makes the instances, or that have none."""


def callables():
    """Yield (name, function, named options) for each constructor and public method of the public classes."""
    for cls in CLASSES:
        if issubclass(cls, NOT_CALLED) or hasattr(cls, "__members__"):
            continue
        for name in dir(cls):
            member = inspect.getattr_static(cls, name)
            if (name.startswith("_") and name != "__init__") or isinstance(member, property):
                continue
            function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            if not inspect.isfunction(function) or (known := known_keywords(function)) is None:
                continue
            if options := sorted(known - {"self", "cls"}):
                yield f"{cls.__qualname__}.{name}", function, options


FOUND = {name: (function, options) for name, function, options in callables()}


def call(function, *arguments, **given):
    result = function(*arguments, **given)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


@pytest.mark.parametrize("name", FOUND)
def test_a_misspelt_option_is_refused_with_the_one_that_was_meant(name):
    function, options = FOUND[name]
    for option in options:
        wrong = option[:-1] if option[:-1] not in ("", *options) else option + "x"
        with pytest.raises(UnknownOption) as caught:
            call(function, None, **{wrong: None})
        if len(option) > 1:
            assert f"{wrong!r}. Did you mean" in str(caught.value), caught.value
        assert all(known in str(caught.value) for known in options)
        assert caught.value.param == wrong


def test_the_public_classes_are_covered():
    assert len(FOUND) > 60
    expected = {"Embedder.__init__", "Embedder.embed", "AsyncEmbedder.load", "Client.__init__", "Runner.__init__"}
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


def test_the_constructor_of_sentence_transformers_suggests_too(tiny):
    with pytest.raises(UnknownOption, match=r"'truncate_dims'\. Did you mean 'truncate_dim'\?"):
        SentenceTransformer(tiny, truncate_dims=3)


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
