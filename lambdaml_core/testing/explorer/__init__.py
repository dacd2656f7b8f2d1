"""The explorer: collectives and checkpoints of a few ranks under crashes, hand-overs, duplicates, delays and losses."""

from __future__ import annotations

from lambdaml_core.testing.explorer.explore import Explored, explore, run_scenario
from lambdaml_core.testing.explorer.laws import LAWS, LawBroken

__all__ = ["LAWS", "Explored", "LawBroken", "explore", "run_scenario"]
