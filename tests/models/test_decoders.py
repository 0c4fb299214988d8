"""Decoder families: direction and window follow config.json, and what they do not implement is refused."""

import json

import pytest
from goldens import TINY

from embergem.errors import CorruptCheckpoint, UnsupportedModel
from embergem.models import architecture
from embergem.models.conditions import RecordingConfig

DIRECTED = ("llama", "mistral", "qwen2", "qwen3")
"""Families that config.json may make causal or not."""


def config(name, **changes):
    """Return config.json of a golden with other values; a value of ... removes the field."""
    changed = json.loads((TINY[name] / "config.json").read_text()) | changes
    return {field: value for field, value in changed.items() if value is not ...}


@pytest.mark.parametrize("name", DIRECTED)
@pytest.mark.parametrize(
    ("fields", "causal"),
    [
        ({}, True),
        ({"is_causal": True}, True),
        ({"is_causal": None, "use_bidirectional_attention": False}, True),
        ({"is_causal": False}, False),
        ({"use_bidirectional_attention": True}, False),
        ({"is_causal": False, "use_bidirectional_attention": True}, False),
    ],
)
def test_either_field_says_in_which_direction_it_attends(name, fields, causal):
    assert architecture(config(name, **fields)).config.causal is causal


@pytest.mark.parametrize("name", DIRECTED)
@pytest.mark.parametrize("value", [True, False])
def test_fields_that_contradict_each_other_are_refused(name, value):
    with pytest.raises(UnsupportedModel, match="contradict each other"):
        architecture(config(name, is_causal=value, use_bidirectional_attention=value))


@pytest.mark.parametrize("name", DIRECTED)
@pytest.mark.parametrize("field", ["is_causal", "use_bidirectional_attention"])
def test_a_direction_that_is_no_boolean_is_refused(name, field):
    with pytest.raises(CorruptCheckpoint, match=f"{field} should be of type bool, found 0"):
        architecture(config(name, **{field: 0}))


def test_a_card_for_both_directions_states_both_fields():
    recorded = RecordingConfig(config("qwen2", use_bidirectional_attention=True))
    architecture(recorded)
    stated = {condition["path"][0]: condition for condition in recorded.conditions if len(condition["path"]) == 1}
    assert stated["is_causal"]["values"] == [None]
    assert stated["use_bidirectional_attention"] | {"path": []} == {"path": [], "values": [True], "absent": False}


@pytest.mark.parametrize(("causal", "radius"), [(True, 7), (False, 8)])
def test_the_window_of_mistral_counts_the_token_itself_if_causal(causal, radius):
    assert architecture(config("mistral", sliding_window=8, is_causal=causal)).config.radius == radius


@pytest.mark.parametrize("name", DIRECTED)
def test_a_missing_base_is_that_of_the_published_library(name):
    assert architecture(config(name, rope_parameters=...)).config.rope_theta == 10_000.0
    assert architecture(config(name, rope_parameters=..., rope_theta=5000)).config.rope_theta == 5000.0


def test_eurobert_must_state_its_base():
    """The authors' code and the published library have different defaults."""
    with pytest.raises(CorruptCheckpoint, match="rope_theta is missing"):
        architecture(config("eurobert", rope_parameters=...))


@pytest.mark.parametrize(("name", "layers"), [("qwen2", 3), ("qwen3_bidirectional", 2)])
def test_sliding_layers_are_refused(name, layers):
    kinds = ["full_attention"] * (layers - 1) + ["sliding_attention"]
    with pytest.raises(UnsupportedModel, match="layer_types names sliding_attention"):
        architecture(config(name, layer_types=kinds))


def test_both_spellings_of_a_bidirectional_qwen3_describe_the_same_model():
    other = json.loads((TINY["qwen3_bidirectional"] / "config.use_bidirectional_attention.json").read_text())
    assert "is_causal" not in other
    assert architecture(other).config == architecture(config("qwen3_bidirectional")).config


LLAMA3 = {"factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 128}


@pytest.mark.parametrize("name_of_type", ["rope_type", "type"])
def test_the_older_form_of_scaled_frequencies_describes_the_same_llama(name_of_type):
    older = config("llama", rope_parameters=..., rope_theta=500000, rope_scaling=LLAMA3 | {name_of_type: "llama3"})
    assert architecture(older).config == architecture(config("llama")).config


@pytest.mark.parametrize("missing", LLAMA3)
def test_incomplete_scaling_is_refused(missing):
    rope = {"rope_type": "llama3", "rope_theta": 5e5} | {key: LLAMA3[key] for key in LLAMA3 if key != missing}
    with pytest.raises(CorruptCheckpoint, match=f"{missing} is missing"):
        architecture(config("llama", rope_parameters=rope))


def test_two_forms_of_scaling_are_refused():
    with pytest.raises(UnsupportedModel, match="both rope_parameters and rope_scaling"):
        architecture(config("llama", rope_scaling=LLAMA3 | {"rope_type": "llama3"}))


@pytest.mark.parametrize("fields", [{"dense_act_fn": "gelu"}, {"is_gated_act": False}, {"feed_forward_proj": "gelu"}])
def test_a_feed_forward_layer_of_t5_that_is_described_twice_must_agree(fields):
    with pytest.raises(UnsupportedModel, match=next(iter(fields))):
        architecture(config("t5_gated", **fields))
