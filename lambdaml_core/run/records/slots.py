"""What asynchronous ranks keep of their slots in the run's store, for a generation whose channel is empty."""

from __future__ import annotations

from lambdaml_core.run.records.checkpoints import CHECKPOINTS
from lambdaml_core.storage import FullStorage

_SLOTS = f"{CHECKPOINTS}slots/"


def kept_key(generation: int, rank: int) -> str:
    """The key of the newest slot that a rank has kept in a generation."""
    return f"{_SLOTS}{generation}/{rank}"


def has_kept_slots(store: FullStorage) -> bool:
    """Whether a new generation has something to go on from.

    Args:
        store: prefixed by the run.
    """
    return any(store.list(_SLOTS))
