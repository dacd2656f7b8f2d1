"""Hypothesis: the same modest examples in every run; ``LAMBDAML_SLOW=1`` looks further, at random."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("default", derandomize=True, deadline=None, max_examples=50, database=None)
settings.register_profile("slow", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("slow" if os.environ.get("LAMBDAML_SLOW") == "1" else "default")
