"""Reading config.json: types, bounds, defaults, and errors that name the field."""

import pytest

from embergem.errors import CorruptCheckpoint, UnsupportedModel
from embergem.models.conditions import RecordingConfig
from embergem.models.config import Fields, fields_of, full_attention_layers

FULL, SLIDING = "full_attention", "sliding_attention"


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        ({"x": "3"}, int, "x should be of type int, found '3'"),
        ({"x": 3.5}, int, "x should be of type int, found 3.5"),
        ({"x": True}, int, "x should be of type int, found True"),
        ({"x": 1}, bool, "x should be of type bool, found 1"),
        ({"x": -1}, int, "x is negative: -1"),
        ({"x": -0.5}, float, "x is negative: -0.5"),
        ({"x": 0}, int, "x must be greater than 0, found 0"),
        ({"x": None}, int, "x is missing"),
        ({}, int, "x is missing"),
    ],
)
def test_a_field_that_is_needed_has_its_type_and_is_positive(config, kind, message):
    with pytest.raises(CorruptCheckpoint, match=message):
        fields_of(config).need("x", kind)


def test_values_and_defaults():
    fields = fields_of({"integer": 7, "null": None, "flag": False, "object": {"inner": 1}, "whole": 96.0})
    assert fields.get("integer", float, 0.5) == 7.0
    assert fields.get("null", int, 5) == fields.get("absent", int, 5) == 5
    assert fields.get("flag", bool, True) is False
    whole = fields.need("whole", int)
    assert (whole, type(whole)) == (96, int)
    assert fields.get("object", dict, {}) == {"inner": 1}
    assert fields.first("absent", "integer") == 7
    with pytest.raises(CorruptCheckpoint, match="first is missing"):
        fields.first("first", "second")
    with pytest.raises(CorruptCheckpoint, match=r"expected an object, found \[\]"):
        fields_of([])


def test_a_choice_has_a_default_and_no_other_values():
    results = {"gelu": "erf", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
    assert Fields({}).choice("act", results, default="gelu") == "erf"
    for wrong in ("swish", None, 1):
        with pytest.raises(UnsupportedModel, match=f"act is {wrong!r}; embergem supports 'gelu' or 'gelu_new' or"):
            Fields({"act": wrong}).choice("act", results, default="gelu")


@pytest.mark.parametrize(
    ("value", "values", "absent"),
    [("gelu_new", ["gelu_new", "gelu_pytorch_tanh"], False), ("gelu", ["gelu"], True)],
)
def test_a_choice_is_recorded_with_the_values_that_mean_the_same(value, values, absent):
    config = RecordingConfig({"act": value})
    Fields(config).choice("act", {"gelu": "erf", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}, default="gelu")
    assert config.conditions == [{"path": ["act"], "values": values, "absent": absent}]


def test_layers_that_attend_to_the_whole_row():
    assert full_attention_layers(Fields({"num_hidden_layers": 5}), 3, first=2) == (False, False, True, False, False)
    listed = {"num_hidden_layers": 2, "layer_types": [FULL, SLIDING]}
    assert full_attention_layers(Fields(listed), 3, first=2) == (True, False)
    with pytest.raises(CorruptCheckpoint, match="layer_types has 2 entries for 3 layers"):
        full_attention_layers(Fields(listed | {"num_hidden_layers": 3}), 3, first=2)
    with pytest.raises(UnsupportedModel, match=r"layer_types names \['chunked_attention'\]"):
        full_attention_layers(Fields(listed | {"layer_types": [FULL, "chunked_attention"]}), 3, first=2)
    with pytest.raises(CorruptCheckpoint, match="every 0th layer"):
        full_attention_layers(Fields({"num_hidden_layers": 5}), 0, first=-1)
