"""Plain values and tensors come out as they went in."""

import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.checkpoint.archive import open_archive
from convert.checkpoint.unpickle import unpickle
from convert.checkpoint.values import Opaque, StoredTensor
from runtime.errors import UserError

RELAXED = settings(deadline=None)
"""The machine may be busy."""

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.tuples(inner, inner, inner, inner)
        | st.dictionaries(st.text() | st.integers(-(2**40), 2**40), inner)
        | st.sets(st.text() | st.integers(-(2**40), 2**40), max_size=5)
        | st.frozensets(st.text(), max_size=5)
    ),
    max_leaves=20,
)


def no_identifiers(_):
    raise ValueError("a persistent id")


def read(content):
    return unpickle(io.BytesIO(content), "the file", no_identifiers)


@RELAXED
@given(PLAIN, st.integers(0, 5))
def test_plain_values_come_out_as_pickle_has_them(value, protocol):
    found = read(pickle.dumps(value, protocol))
    assert found == value and type(found) is type(value)


@RELAXED
@given(PLAIN)
def test_what_is_in_a_value_twice_is_so_again(value):
    found = read(pickle.dumps([value, {"a": value}], 4))
    assert found == [value, {"a": value}]
    assert not isinstance(value, list | dict) or found[0] is found[1]["a"]


@RELAXED
@given(st.lists(PLAIN, min_size=1, max_size=4))
def test_pickles_in_a_row_are_read_one_by_one(values):
    stream = io.BytesIO(b"".join(pickle.dumps(value, 2) for value in values) + b"rest")
    for value in values:
        assert unpickle(stream, "the file", no_identifiers) == value
    assert stream.read() == b"rest"


@RELAXED
@given(st.data())
def test_a_value_that_was_cut_is_refused(data):
    content = pickle.dumps(data.draw(PLAIN), 4)
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(UserError, match=r"the file is (damaged|refused)"):
        read(content[:cut])


@RELAXED
@given(st.binary())
def test_bytes_of_any_kind_are_a_value_or_refused(content):
    try:
        read(content)
    except UserError as error:
        assert str(error).startswith("the file")


@RELAXED
@given(st.lists(st.sampled_from([bytes([i]) for i in range(256)]), max_size=60))
def test_operations_of_any_order_are_a_value_or_refused(operations):
    try:
        read(b"\x80\x02" + b"".join(operations) + b".")
    except UserError as error:
        assert str(error).startswith("the file")


KINDS_OF_NUMBERS = ("f2", "f4", "f8", "i1", "i8", "u1", "bool")
ARRAYS = [np.arange(6).reshape(2, 3).astype(kind) for kind in KINDS_OF_NUMBERS]


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("array", [*ARRAYS, np.zeros((0, 3)), np.array(5.0)], ids=repr)
def test_numpy_arrays(array, protocol):
    found = read(pickle.dumps(array, protocol))
    np.testing.assert_array_equal(found.value, array.ravel())


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i4", "i8", "bool"])
def test_numpy_numbers(kind, protocol):
    value = np.array([1], kind)[0]
    found = read(pickle.dumps(value, protocol))
    assert found == value and type(found) in (int, float, bool)


@pytest.mark.parametrize(
    "value", [torch.device("cuda", 0), torch.device("cpu")], ids=["cuda", "cpu"]
)
def test_devices_are_kept_as_something(value):
    assert isinstance(read(pickle.dumps(value, 2)), Opaque)


KINDS = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8]


@st.composite
def views(draw):
    """Parts of tensors: slices, transpositions, single elements repeated."""
    shape = draw(st.lists(st.integers(0, 5), max_size=4))
    count = int(np.prod(shape))
    tensor = torch.arange(count, dtype=torch.float32).reshape(shape)
    tensor = tensor.to(draw(st.sampled_from(KINDS)))
    for axis, size in enumerate(shape):
        begin = draw(st.integers(0, size))
        step = draw(st.integers(1, 3))
        tensor = tensor[(slice(None),) * axis + (slice(begin, None, step),)]
    if draw(st.booleans()):
        tensor = tensor.permute(draw(st.permutations(range(tensor.ndim))))
    if draw(st.booleans()) and tensor.ndim:
        tensor = tensor[..., None].expand(*tensor.shape, 1)
    return tensor


@RELAXED
@given(views(), st.booleans())
def test_tensors_are_what_torch_saved(tensor, newer):
    stream = io.BytesIO()
    torch.save([tensor, tensor], stream, _use_new_zipfile_serialization=newer)
    archive = open_archive(stream.getvalue(), "the file")
    first, second = archive.value
    assert isinstance(first, StoredTensor) and first.storage == second.storage
    found = archive.tensor(first)
    expected = tensor.float() if tensor.is_floating_point() else tensor
    assert found.shape == tuple(tensor.shape)
    np.testing.assert_array_equal(found, expected.numpy())
