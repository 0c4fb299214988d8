"""The tables of refused and ignored arguments of the compatibility classes: complete, and obeyed by the classes."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from embergem import EmbeddingModelBuilder, Runner, Which
from embergem.compat.arguments import Ignored, Refused
from embergem.compat.mistralrs.tables import EMBEDDING_MODEL_BUILDER, RUNNER, WHICH_EMBEDDING
from embergem.compat.sentence_transformers.tables import CONSTRUCTOR
from embergem.errors import IgnoredOptionWarning, UnsupportedOption
from embergem.sentence_transformers import SentenceTransformer

ROOT = Path(__file__).parents[2]
ACCEPTED = {
    "Runner": {"which", "token_source"},
    "Which.Embedding": {
        *("model_id", "arch", "tokenizer_json", "dtype", "hf_cache_path"),
        *("window", "dense_from", "allow_missing_dense", "revision"),
    },
}


@pytest.mark.parametrize(
    ("name", "signature", "table"),
    [
        ("Runner", inspect.signature(Runner), RUNNER),
        ("Which.Embedding", inspect.signature(Which.Embedding), WHICH_EMBEDDING),
    ],
)
def test_every_argument_is_accepted_or_in_the_table(name, signature, table):
    assert set(signature.parameters) == ACCEPTED[name] | set(table)
    assert not ACCEPTED[name] & set(table)


class Nothing:
    """A value that differs from every default."""


@pytest.mark.parametrize("name", RUNNER)
def test_runner_follows_its_table(tiny, name):
    if isinstance(RUNNER[name], Refused):
        with pytest.raises(UnsupportedOption, match=rf"^Runner\({name}=…\) is not supported: ...") as raised:
            Runner(Which.Embedding(str(tiny)), **{name: Nothing()})
        assert raised.value.param == name
        assert RUNNER[name].reason in str(raised.value)
    else:
        with pytest.warns(IgnoredOptionWarning, match=rf"^Runner\({name}=.*is ignored: ...") as caught:
            Runner(Which.Embedding(str(tiny)), **{name: Nothing()}).close()
        assert caught[0].filename == __file__


@pytest.mark.parametrize("name", WHICH_EMBEDDING)
def test_which_embedding_follows_its_table(name):
    with pytest.raises(UnsupportedOption, match=rf"^Which.Embedding\({name}=…\) is not supported: ..."):
        Runner(Which.Embedding("x", **{name: "y"}))


@pytest.mark.parametrize("name", EMBEDDING_MODEL_BUILDER)
def test_the_builder_follows_its_table(name):
    method = getattr(EmbeddingModelBuilder("x"), name)
    arguments = ["x" for _ in inspect.signature(method).parameters]
    reason = EMBEDDING_MODEL_BUILDER[name].reason
    with pytest.raises(UnsupportedOption, match=f"^{name} is not supported: ...") as raised:
        method(*arguments)
    assert reason in str(raised.value)
    assert reason in inspect.getdoc(method)


@pytest.mark.parametrize("name", CONSTRUCTOR)
def test_sentence_transformer_follows_its_table(tiny, name):
    if isinstance(CONSTRUCTOR[name], Refused):
        with pytest.raises(UnsupportedOption, match=rf"^SentenceTransformer\({name}=…\) is not supported: ..."):
            SentenceTransformer(tiny, **{name: Nothing()})
    else:
        with pytest.warns(IgnoredOptionWarning, match=rf"^SentenceTransformer\({name}=.*is ignored: ...") as caught:
            SentenceTransformer(tiny, **{name: Nothing()}).close()
        assert caught[0].filename == __file__


def test_an_argument_that_no_table_has_is_a_type_error(tiny):
    with pytest.raises(TypeError, match="no option 'nonsense'"):
        SentenceTransformer(tiny, nonsense=1)


@pytest.mark.parametrize("table", [RUNNER, WHICH_EMBEDDING, EMBEDDING_MODEL_BUILDER, CONSTRUCTOR])
def test_every_entry_gives_a_reason_that_completes_the_sentence(table):
    for treatment in table.values():
        assert isinstance(treatment, Refused | Ignored)
        assert treatment.reason[0].islower() or treatment.reason.startswith(("BF16", "UQFF"))
        assert not treatment.reason.endswith(".")


def test_the_page_is_current():
    command = [sys.executable, str(ROOT / "scripts" / "compatibility_page.py"), "--check"]
    assert subprocess.run(command, cwd=ROOT).returncode == 0, "docs/compatibility.md is stale: make compatibility-page"
