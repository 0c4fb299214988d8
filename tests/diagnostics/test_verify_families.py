"""`verify` against servers that ignore a part of the checkpoint, as engines are known to do: it names the part."""

import json
import re
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from faulty_server import Faults, model, verdict_on
from goldens import TINY, copy_model, edit, golden
from typer.testing import CliRunner

from embergem.checkpoint.checkpoint import Location
from embergem.cli.app import app as commands
from embergem.diagnostics.verify.local import LocalModel
from embergem.errors import UnsupportedModel
from embergem.models.head import Dense
from embergem.ops.reference import Reference

PROBES = {"short", "accents", "special token", "sentences", "over the limit"}


CHANGED = {"qwen2 linear": {"rope_parameters": {"rope_theta": 1e6, "rope_type": "linear", "factor": 4.0}}}
"""Goldens with changed fields of config.json."""


@pytest.fixture(scope="module")
def correct(tmp_path_factory):
    """Returns the correct server of a golden, made once."""
    known = {}

    def server(name):
        if name not in known:
            golden_name, directory = name.split(" ")[0], TINY.get(name)
            if name in CHANGED:
                directory = copy_model(golden_name, tmp_path_factory.mktemp("changed") / golden_name)
                edit(directory / "config.json", **CHANGED[name])
            known[name] = Faults(golden(golden_name, directory), LocalModel(Location(name, directory)))
        return known[name]

    return server


def configured(**fields):
    return lambda server: model(server, config=fields)


class Unbiased(Reference):
    def attention(self, *values, bias=None, **options):
        return super().attention(*values, **options)


class PaddingCounted(Reference):
    def embed(self, *values, padding=None, **options):
        return super().embed(*values, **options)


class DefaultReach(Reference):
    def attention(self, *values, furthest=128, **options):
        return super().attention(*values, **options)


class ScaledByHeadDim(Reference):
    def attention(self, *values, scale, head_dim, **options):
        return super().attention(*values, scale=head_dim**-0.5, head_dim=head_dim, **options)


def linear_dense(head):
    return tuple(replace(module, activation=None) if isinstance(module, Dense) else module for module in head)


def cut_at_the_beginning(local, texts):
    return [
        row if len(row) <= local.limit else np.concatenate([row[:1], row[1 - local.limit :]])
        for row in local.uncut_rows(texts)
    ]


def without_accents(text):
    return "".join(sign for sign in unicodedata.normalize("NFD", text) if unicodedata.category(sign) != "Mn")


IGNORED = {
    "is_causal: false": ("qwen3_bidirectional", configured(causal=True), "attention", "with a causal mask"),
    "causality": ("qwen2", configured(causal=False), "attention", "without the causal mask"),
    "llama3 scaling": ("llama", configured(llama3=None), "rope", "without the scaling"),
    "rope_theta": ("eurobert", configured(rope_theta=10_000.0), "rope", "rotary base 10,000"),
    "rope_scaling": ("qwen2 linear", configured(linear=None), "rope", "without the scaling"),
    "padding tokens in a text": (
        "roberta_mean", lambda server: model(server, ops=PaddingCounted), "positions", "padding tokens counted"
    ),
    "weights of tokens": ("static_quantised", configured(token_weights=False), "weights", "without the weights of"),
    "query_pre_attn_scalar": (
        "gemma3_text_causal", lambda server: model(server, ops=ScaledByHeadDim), "attention", "size of a head"
    ),
    "the offset of positions": ("xlm_roberta", configured(position_offset=0), "positions", "the first row"),
    "relative position biases": ("mpnet", lambda server: model(server, ops=Unbiased), "positions", "without"),
    "relative_attention_max_distance": ("t5", lambda server: model(server, ops=DefaultReach), "positions", "128"),
    "unscaled scores": ("t5", lambda server: model(server, ops=ScaledByHeadDim), "attention", "size of a head"),
    "the activation of dense layers": (
        "distilbert", lambda server: model(server, head=linear_dense), "dense", "without the activation"
    ),
    "truncation_side: right": (
        "bert_mean", lambda server: replace(server, rows=cut_at_the_beginning), "truncation", "at their beginning"
    ),
    "max_seq_length": (
        "nomic_bert", lambda server: replace(server, rows=LocalModel.uncut_rows), "truncation", "not to the limit"
    ),
    "strip_accents: false": ("camembert", lambda server: replace(server, text=without_accents), "tokenizer", "accents"),
}  # fmt: skip
"""What a server ignores: a golden, the server, the cause, and words of the explanation."""


@pytest.mark.parametrize("ignored", IGNORED)
def test_what_a_server_ignores_is_named(correct, ignored):
    name, broken, cause, words = IGNORED[ignored]
    found = verdict_on(broken(correct(name)), PROBES)
    assert (found.agrees, found.cause) == (False, cause), found.explanation
    assert words in found.explanation


@pytest.mark.parametrize("name", ["nomic_bert", "qwen3_bidirectional", "xlm_roberta"])
def test_a_correct_server_agrees(correct, name):
    found = verdict_on(correct(name), PROBES)
    assert found.agrees, found.explanation


CHANGING = {
    "truncate_dim": (
        "config_sentence_transformers.json",
        {"truncate_dim": 32},
        "truncate_dim is 32; .* makes the library cut the vectors",
    ),
    "chat template": (
        "sentence_bert_config.json",
        {"modality_config": {"message": {"method": "forward", "format": "flat"}}},
        "library embeds texts as the chat template renders them",
    ),
}  # fmt: skip
"""Settings that a server may ignore or follow, and that embergem refuses: the file, the setting, and the error."""
TEMPLATE = "<|im_start|>user\n{{ messages[-1]['content'] }}<|im_end|>"


@pytest.mark.parametrize("setting", CHANGING)
def test_a_setting_that_embergem_refuses_is_explained(tmp_path, setting):
    """Whether the other engine ignores the setting cannot be found out, because there is no model to compare with."""
    file, change, words = CHANGING[setting]
    directory = copy_model("bert_mean", tmp_path / "model")
    (directory / "chat_template.jinja").write_text(TEMPLATE)
    content = json.loads((directory / file).read_text())
    (directory / file).write_text(json.dumps(content | change))
    result = CliRunner().invoke(commands, ["verify", str(directory), "--against", "http://127.0.0.1:9"])
    assert isinstance(result.exception, UnsupportedModel)
    assert re.search(words, str(result.exception))


def test_a_server_that_follows_a_setting_is_found_after_it_is_removed_here(correct):
    """The errors say to remove the setting."""
    cut = verdict_on(replace(correct("bert_mean"), vector=lambda vector: vector[:32]), PROBES)
    assert (cut.cause, cut.explanation) == ("dimensions", "the other engine gives the first 32 of 64 numbers")
    rendered = verdict_on(
        replace(correct("bert_mean"), text=lambda text: f"<|im_start|>user\n{text}<|im_end|>"), PROBES
    )
    assert rendered.cause == "tokenizer"
    assert "a chat template around the texts" in rendered.explanation
