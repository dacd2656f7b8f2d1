"""Real data that comes with the package; ``README.md`` beside this says where it is from."""

from __future__ import annotations

from pathlib import Path

CENSUS_INCOME = Path(__file__).with_name("census-income.libsvm.gz")
"""20,000 people of the US census of 1994 and 1995 by 40 traits; class 1 is an income of more than 50,000 dollars."""
