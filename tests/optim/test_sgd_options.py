"""Options that cannot work, or that contradict each other, are refused before anything runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sgd_ranks import alone, cut, workers

from lambdaml_core.builtin import LinearOptions, MASGDOptions, SGDOptions
from lambdaml_core.errors import OptionError
from lambdaml_core.models.logistic import LogisticRegression
from lambdaml_core.optim.sgd import Step
from lambdaml_core.options import parse


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (SGDOptions, {"nesterov": True}, "nesterov needs momentum"),
        (SGDOptions, {"decay_steps": 9}, "decay_steps means nothing to the schedule auto"),
        (SGDOptions, {"decay_steps": 9, "schedule": "cosine"}, "decay_steps means nothing to the schedule cosine"),
        (MASGDOptions, {"local_steps": 9, "local_epochs": 2}, "both given"),
        (MASGDOptions, {"nesterov": True}, "nesterov needs momentum"),
        (MASGDOptions, {"keep_momentum": True}, "keep_momentum needs momentum"),
    ],
)
def test_contradictions_are_refused(cls: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        parse(cls, values)
    assert caught.value.hint


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
def test_a_penalty_that_diverges_by_itself_is_refused_and_none_that_does_not(settings: dict[str, Any]) -> None:
    l2 = 0.5
    with pytest.raises(OptionError, match="diverges whatever the data") as caught:
        parse(SGDOptions, {"learning_rate": 100, "l2": l2, **settings})
    limit = float(str(caught.value.hint).split()[-1])
    with pytest.raises(OptionError, match="diverges"):
        parse(SGDOptions, {"learning_rate": 1.001 * limit, "l2": l2, **settings})
    below = parse(SGDOptions, {"learning_rate": 0.999 * limit, "l2": l2, **settings})
    (data,) = cut(np.zeros((1, 1), np.float32), np.zeros(1, np.float32), [], 1)
    (worker,) = workers(LogisticRegression(LinearOptions()), data, alone(), 1)
    for learning_rate, grows in ((0.99 * limit, False), (1.01 * limit, True)):
        p, v, g = np.ones(2, np.float64), np.zeros(2, np.float64), np.zeros(2, np.float64)
        step = Step(below, worker, p, g, v if settings else None)
        for _ in range(2000):
            g[:] = 0
            step(learning_rate, 1)
        assert (abs(p[0]) > 1) == grows
