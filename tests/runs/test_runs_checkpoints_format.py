"""The files of checkpoints: safetensors that others can read, arrays that come back as they were."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from safetensors.numpy import load, save

from lambdaml_core.errors import RunError
from lambdaml_core.run.records.tensors import check_arrays, decode, encode

KINDS = ["?", "u1", "i1", "<u2", "<i2", "<f2", "<u4", "<i4", "<f4", "<u8", "<i8", "<f8"]

any_arrays = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda name: name != "__metadata__"),
    st.sampled_from(KINDS).flatmap(lambda kind: arrays(kind, array_shapes(min_dims=0, min_side=0, max_side=4))),
    max_size=5,
)


def equal(a: dict[str, NDArray[Any]], b: dict[str, NDArray[Any]]) -> bool:
    """In every byte: also where NaN hides."""
    return a.keys() == b.keys() and all(
        (a[n].dtype, a[n].shape, a[n].tobytes()) == (b[n].dtype, b[n].shape, b[n].tobytes()) for n in a
    )


@given(any_arrays)
def test_arrays_come_back_aligned_writable_and_in_their_order(given: dict[str, NDArray[Any]]) -> None:
    check_arrays(given)
    back = decode(b"".join(encode(given)))
    assert equal(given, back)
    assert list(back) == list(given)
    for array in (array for array in back.values() if array.size):
        assert array.__array_interface__["data"][0] % 64 == 0
        assert array.flags.writeable


@given(any_arrays)
def test_safetensors_reads_what_is_written(given: dict[str, NDArray[Any]]) -> None:
    assert equal(load(b"".join(encode(given))), given)


@given(any_arrays)
def test_what_safetensors_writes_is_read(given: dict[str, NDArray[Any]]) -> None:
    assert equal(decode(save(given, metadata={"a": "b"})), given)


@given(any_arrays.filter(lambda given: any(a.size for a in given.values())), st.data())
def test_a_file_cut_short_is_none(given: dict[str, NDArray[Any]], data: st.DataObject) -> None:
    whole = b"".join(encode(given))
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_no_bytes_are_copied_to_write_an_array() -> None:
    large = np.zeros(1000)
    _, *parts = encode({"a": large, "none": np.zeros((0, 3))})
    assert [np.shares_memory(np.frombuffer(part, np.uint8), large) for part in parts] == [True]


def test_a_file_does_not_depend_on_who_writes_it() -> None:
    arrays: dict[str, NDArray[Any]] = {"b": np.zeros(3, np.float16), "a": np.ones(2), "c": np.array(True)}
    assert len({b"".join(encode(arrays)) for _ in range(3)}) == 1
    in_order = [b"".join(encode({n: arrays[n] for n in names})[1:]) for names in itertools.permutations(arrays)]
    assert len(set(in_order)) == 1


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4)).T,
        np.zeros(8)[::2],
        np.zeros(3, ">f8"),
        np.zeros(3, np.complex128),
        np.zeros(3, np.longdouble),
        np.array(["a"]),
        np.array([None]),
        np.zeros(2, "M8[s]"),
        np.zeros(2, [("a", "f8")]),
    ],
    ids=lambda a: f"{a.dtype}-{a.shape}",
)
def test_what_would_not_come_back_is_refused_by_name(array: NDArray[Any]) -> None:
    with pytest.raises(RunError, match="shared/odd") as caught:
        check_arrays({"fine": np.zeros(2), "shared/odd": array})
    assert caught.value.hint is not None
