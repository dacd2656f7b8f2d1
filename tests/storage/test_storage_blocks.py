"""Memory for values that are received: used again when nobody looks at it, and never before."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.storage.blocks import Blocks

LIMIT = 1 << 20


def address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).__array_interface__["data"][0])


@given(st.lists(st.tuples(st.integers(1, 300_000), st.integers(0, 3)), max_size=60))
def test_no_two_views_that_are_alive_share_memory(steps: list[tuple[int, int]]) -> None:
    """Whatever the sizes, and whichever views are let go, a part of a view among them."""
    blocks = Blocks(LIMIT)
    alive: list[tuple[int, memoryview]] = []
    for number, (size, let_go) in enumerate(steps):
        view = blocks.take(size)
        assert view.nbytes == size
        assert address(view) % 64 == 0
        view[:] = bytes([number]) * size
        alive.append((number, view[size // 2 :]))
        del view
        del alive[:let_go]
        assert all(bytes(part) == bytes([n]) * len(part) for n, part in alive)


def test_memory_is_used_again_once_no_view_of_it_is_left() -> None:
    blocks = Blocks(LIMIT)
    view = blocks.take(200_000)
    array = np.frombuffer(view, np.float32)[10:]
    there = address(view)
    del view
    assert address(blocks.take(200_000)) != there, "an array of its bytes is alive"
    del array
    assert there in (address(blocks.take(200_000)), address(blocks.take(190_000))), "rounded, both are of one size"


def test_blocks_of_other_sizes_make_room() -> None:
    """What was asked for once does not keep memory for ever, nor from being used by what is asked for now."""
    blocks = Blocks(LIMIT)
    for size in (100_000, 300_000, 500_000):
        blocks.take(size)
    there = address(blocks.take(700_000))
    assert address(blocks.take(700_000)) == there
    held = blocks.take(700_000)
    beyond = blocks.take(700_000)
    assert address(held) == there != address(beyond)
    blocks.clear()
    held[:] = beyond[:] = bytes(700_000)
