"""What crosses the wall arrives as it left: tuples stay tuples, keys stay keys; what is not of the form is refused."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save

from fmcourse.grading.wire import WireError, pack, unpack


def test_values_arrive_as_they_left():
    value = {"tensor": torch.arange(6).view(2, 3), "nested": [1, (2.5, "x", None, True), {("a", "b"): [1], 3: "c"}]}
    arrived = unpack(pack(value))
    assert torch.equal(arrived["tensor"], value["tensor"])
    assert arrived["nested"] == value["nested"]
    assert isinstance(arrived["nested"][1], tuple)
    assert math.isinf(unpack(pack({"x": float("inf")}))["x"])
    assert unpack(pack({"x": np.float64(0.1)})) == {"x": 0.1}


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", {"a": print}, 1j])
def test_objects_do_not_cross(value):
    with pytest.raises(WireError, match="an answer is of tensors"):
        pack({"x": value})


@pytest.mark.parametrize(
    "form",
    [
        {"tensor": 7},
        {"tensor": "x"},
        {"list": 1},
        {"tuple": {}},
        {"dict": [[1]]},
        {"dict": [[{"list": []}, {"value": 1}]]},
        {"value": [1]},
        {"float": "one"},
        {"pickle": "x"},
        {"value": 1, "list": []},
        1,
    ],
)
def test_what_is_not_of_the_form_is_refused(form):
    data = save({"none": torch.zeros(1)}, metadata={"form": json.dumps({"x": form})})
    with pytest.raises(WireError):
        unpack(data)


def test_arrays_and_numbers_of_numpy_arrive_as_tensors_and_numbers():
    arrived = unpack(pack({"x": [np.float64(0.1), np.int32(3), np.bool_(True), np.arange(4.0)[::-2]]}))["x"]
    assert arrived[:3] == [0.1, 3, True]
    assert [type(part) for part in arrived[:3]] == [float, int, bool]
    assert torch.equal(arrived[3], torch.tensor([3.0, 1.0], dtype=torch.float64))
