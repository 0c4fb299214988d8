"""Rotary positions: the spellings of config.json, and what is refused. test_variants.py has the vectors."""

import pytest

from embergem.errors import CorruptCheckpoint, UnsupportedModel
from embergem.models.config import Fields
from embergem.models.rope import FULL, SLIDING, Rope, read_layer_ropes, read_rope
from embergem.ops import Llama3Scaling

LLAMA3 = {"factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 128}
NAMES = {"full": ("rope_theta", 1.0), "sliding": ("local", 2.0)}


@pytest.mark.parametrize(
    ("config", "rope"),
    [
        ({}, Rope(3.0)),
        ({"base": 4}, Rope(4.0)),
        ({"rope_parameters": {"rope_theta": 5}, "base": 4}, Rope(5.0)),
        ({"rope_parameters": {"rope_type": "default"}, "base": 4}, Rope(4.0)),
        ({"rope_scaling": {"rope_type": "default"}}, Rope(3.0)),
        ({"rope_scaling": None, "rope_parameters": None, "base": None}, Rope(3.0)),
        ({"rope_parameters": {"rope_type": "linear", "factor": 4}}, Rope(3.0, linear=4.0)),
        ({"rope_parameters": {"type": "linear", "factor": 4}}, Rope(3.0, linear=4.0)),
        ({"rope_scaling": {"type": "linear", "factor": 4}, "base": 9}, Rope(9.0, linear=4.0)),
        ({"rope_scaling": {"type": "llama3"} | LLAMA3}, Rope(3.0, llama3=Llama3Scaling(8, 1, 4, 128))),
        ({"rope_scaling": {"type": "ntk", "factor": 8}, "base": 5}, Rope(40.0, linear=8 ** (1 / 8))),
    ],
)
def test_one_rotation_in_either_spelling(config, rope):
    assert read_rope(Fields(config), "base", default=3.0, llama3=True, ntk=16) == rope


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"rope_parameters": {"rope_type": "yarn"}}, UnsupportedModel, "rope_type is 'yarn'; embergem supports"),
        ({"rope_scaling": {"type": "llama3"} | LLAMA3}, UnsupportedModel, "rope_type is 'llama3'"),
        ({"rope_scaling": {"type": "ntk", "factor": 8}}, UnsupportedModel, "rope_type is 'ntk'; .* or 'linear' here"),
        ({"rope_scaling": {"type": "linear"}}, CorruptCheckpoint, "factor is missing"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, CorruptCheckpoint, "factor must be greater than 0"),
        ({"rope_parameters": {"rope_theta": 0}}, CorruptCheckpoint, "base is missing or 0"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, UnsupportedModel, "partial_rotary_factor is 0.5"),
        ({"partial_rotary_factor": 0.5}, UnsupportedModel, "partial_rotary_factor is 0.5"),
        (
            {"rope_parameters": {"rope_theta": 1}, "rope_scaling": {"rope_type": "default"}},
            UnsupportedModel,
            "both rope_parameters and rope_scaling",
        ),
    ],
)
def test_one_rotation_that_is_refused(config, error, message):
    with pytest.raises(error, match=message):
        read_rope(Fields(config), "base", default=3.0)


@pytest.mark.parametrize(
    ("more", "message"),
    [({}, "factor is missing"), ({"factor": 8, "mixed_b": 0.5}, "mixed_b is 0.5"), ({"factor": 0}, "greater than 0")],
)
def test_ntk_scaling_that_is_refused(more, message):
    with pytest.raises((CorruptCheckpoint, UnsupportedModel), match=message):
        read_rope(Fields({"rope_scaling": {"type": "ntk"} | more}), default=3.0, ntk=16)


def test_a_family_without_a_default_needs_a_base():
    with pytest.raises(CorruptCheckpoint, match="rope_theta is missing or 0"):
        read_rope(Fields({}), default=None)


@pytest.mark.parametrize(
    ("config", "full", "sliding"),
    [
        ({}, Rope(1.0), Rope(2.0)),
        ({"rope_theta": 5.0, "local": 6.0}, Rope(5.0), Rope(6.0)),
        ({"rope_parameters": {FULL: {"rope_theta": 5}, SLIDING: None}}, Rope(5.0), Rope(2.0)),
        ({"rope_parameters": {SLIDING: {"rope_theta": 6, "rope_type": "default"}}}, Rope(1.0), Rope(6.0)),
        ({"rope_scaling": {"rope_type": "linear", "factor": 8}}, Rope(1.0, linear=8.0), Rope(2.0)),
    ],
)
def test_two_rotations_in_either_spelling(config, full, sliding):
    assert read_layer_ropes(Fields(config), **NAMES, scaled=(FULL,)) == {FULL: full, SLIDING: sliding}


def test_the_older_scaling_may_be_of_all_layers():
    scaled = Fields({"rope_scaling": {"rope_type": "linear", "factor": 8}})
    ropes = read_layer_ropes(scaled, **NAMES, scaled=(FULL, SLIDING))
    assert [rope.linear for rope in ropes.values()] == [8.0, 8.0]


@pytest.mark.parametrize("flat", [{"rope_theta": 5.0}, {"rope_type": "default"}, {"type": "linear", "factor": 4}])
def test_parameters_that_the_library_would_drop_are_refused(flat):
    with pytest.raises(UnsupportedModel, match="not an object for each kind of layer"):
        read_layer_ropes(Fields({"rope_parameters": flat}), **NAMES, scaled=(FULL,))


def test_the_older_name_of_the_type_is_refused_where_the_library_ignores_it():
    with pytest.raises(UnsupportedModel, match=r"type is 'linear'.*write it as rope_type"):
        read_layer_ropes(Fields({"rope_scaling": {"type": "linear", "factor": 4}}), **NAMES, scaled=(FULL,))
