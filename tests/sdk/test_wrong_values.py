"""Wrong values of arguments: each error names the argument and the value, and says what to give."""

import pytest

from embergem import Client, Embedder
from embergem.errors import InvalidTask, InvalidType, ServerUnreachable, UnsupportedOption


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"dimensions": "256"}, InvalidType, r"dimensions='256' is of type str\. Give a whole number, or None\."),
        ({"dimensions": True}, InvalidType, r"dimensions=True is of type bool\."),
        ({"dimensions": 64.0}, InvalidType, r"dimensions=64\.0 is of type float\."),
        ({"truncate": "yes"}, InvalidType, r"truncate='yes' is of type str\. Give True or False\."),
        ({"task": "qurey"}, InvalidTask, r'no task "qurey"\. It has: .* Did you mean \'query\'\?'),
    ],
)
def test_arguments_of_embed(embedder, options, error, words):
    with pytest.raises(error, match=words) as caught:
        embedder.embed(["a"], **options)
    assert caught.value.param == next(iter(options))


def test_integers_of_numpy_are_dimensions(embedder):
    import numpy as np

    assert embedder.embed("a", dimensions=np.int64(96)).shape == (1, 96)


def test_a_tokenizer_that_is_not_a_file(tiny, tmp_path):
    with pytest.raises(UnsupportedOption, match=r"tokenizer='/nope\.json' is not a file\. Give the path of a"):
        Embedder(tiny, tokenizer="/nope.json")
    with pytest.raises(UnsupportedOption, match=r"Did you mean '.*tokenizer\.json'\?"):
        Embedder(tiny, tokenizer=tiny)


def test_a_server_that_does_not_run():
    with pytest.raises(ServerUnreachable, match="Check the address, and that `embergem serve` runs there"):
        Client("http://127.0.0.1:1", retries=0)
