"""Keys are paths that cannot climb."""

from __future__ import annotations

import posixpath
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.errors import StorageError
from lambdaml_core.storage import check_key
from lambdaml_core.testing.storage_laws.keys import ILLEGAL, LEGAL

LETTERS = string.ascii_letters + string.digits + "_-."


def is_legal(key: str) -> bool:
    """The rule in words, without a regular expression."""
    return all(word and not word.startswith(".") and set(word) <= set(LETTERS) for word in key.split("/"))


@given(key=st.text(st.sampled_from(LETTERS + "/"), max_size=12) | st.text(max_size=12))
def test_rule(key: str) -> None:
    if is_legal(key):
        assert check_key(key) == key
        assert posixpath.normpath(f"/run/{key}") == f"/run/{key}"
    else:
        with pytest.raises(StorageError) as refused:
            check_key(key)
        assert repr(key) in str(refused.value)


@pytest.mark.parametrize("key", LEGAL)
def test_legal(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", ILLEGAL)
def test_illegal(key: str) -> None:
    with pytest.raises(StorageError):
        check_key(key)


def test_longest() -> None:
    assert check_key("k" * 250) == "k" * 250
    assert check_key("k" * 7, max_bytes=7) == "k" * 7
    with pytest.raises(StorageError, match="longer than 250 bytes"):
        check_key("k" * 251)
    with pytest.raises(StorageError, match="longer than 7 bytes"):
        check_key("k" * 8, max_bytes=7)
    with pytest.raises(StorageError) as refused:
        check_key("/" * 100_000)
    assert len(str(refused.value)) < 100
