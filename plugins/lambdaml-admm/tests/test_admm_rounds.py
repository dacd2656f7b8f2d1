"""What a round does beside its formulas: options, figures, when it can be left, and a run by a job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from admm_help import MODELS, problem, ranks, solution

from lambdaml_admm.optimizer import ADMM
from lambdaml_admm.options import ADMMOptions
from lambdaml_core.data.base import Batch
from lambdaml_core.errors import LambdaMLError, OptionError, RunError
from lambdaml_core.options import parse
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.job import Job
from lambdaml_core.testing.optimizer import Rows
from lambdaml_core.testing.optimizer_laws.rows import Share
from lambdaml_core.testing.optimizer_laws.training import Training


class Left(Exception):
    """The work is left, as by a worker whose time is up."""


class Leaving(Share):
    """Rows that say so after some blocks or mini-batches."""

    left = 10**9
    seen = 0

    def blocks(self) -> Iterator[Batch]:
        for block in super().blocks():
            self._look()
            yield block

    def batch(self, step: int) -> Batch:
        self._look()
        return super().batch(step)

    def _look(self) -> None:
        self.seen += 1
        if self.seen > self.left:
            raise Left


def train(rows: Rows, options: ADMMOptions, share: Share, *, rounds: int = 2) -> Training:
    training = Training(ADMM(options), MODELS["logistic"], rows, rounds, 100, 60.0, size=1, shares=[share])
    training.run()
    return training


@pytest.mark.parametrize("local", ["lbfgs", "sgd"])
def test_it_can_be_left_between_any_two_passes(local: str) -> None:
    """Whoever asks for rows may be told that the time is up; nothing catches that."""
    rows = problem("logistic")
    options = ADMMOptions(l2=1e-2, local=local)
    steps = -(-len(rows) // 100)
    whole = Leaving(rows, steps)
    train(rows, options, whole)
    assert whole.seen > 6
    for left in range(0, whole.seen, 3):
        leaving = Leaving(rows, steps)
        leaving.left = left
        with pytest.raises(Left):
            train(rows, options, leaving)


def test_passes_are_as_many_as_allowed() -> None:
    """At z, at the local parameters to begin with, and then those of the line search, which may need a few to end."""
    rows = problem("logistic")
    counted = Leaving(rows, steps=3)
    train(rows, ADMMOptions(l2=1e-2, local_epochs=3, local_tolerance=1e-9), counted, rounds=5)
    assert 5 * 4 < counted.seen <= 5 * 8 + 2, "the last two are the trainer's own"


def test_figures_tell_of_the_round() -> None:
    training = ranks(problem("logistic"), "logistic", ADMMOptions(l2=1e-2), size=2, rounds=300)
    figures = training.witnesses[0].figures
    assert set(figures[0]) == {"loss", "objective", "primal", "dual", "rho"}
    assert figures[0]["loss"] == pytest.approx(np.log(2)), "the parameters that it starts from are zeros"
    assert set(figures[-1]) == set(figures[0]) | {"stop"}
    assert figures[-1]["primal"] < 1e-2 * figures[0]["primal"]
    assert len({figure["rho"] for figure in figures[:10]}) > 1, "rho is corrected"


def test_rho_stays_where_it_is_told_to() -> None:
    for options in (ADMMOptions(rho=5.0, balance=0.0), ADMMOptions(rho=5.0, balance_rounds=0)):
        figures = ranks(problem("logistic"), "logistic", options, size=2, rounds=8).witnesses[0].figures
        assert [figure["rho"] for figure in figures] == [5.0] * 8
    training = ranks(problem("logistic"), "logistic", ADMMOptions(rho=5.0, balance_rounds=3), size=2, rounds=8)
    rhos = [figure["rho"] for figure in training.witnesses[0].figures]
    assert len(set(rhos[:4])) > 1
    assert len(set(rhos[3:])) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"balance": 0.5}, "balance"),
        ({"balance": 1.0}, "balance"),
        ({"relaxation": 2.0}, "relaxation"),
        ({"local": "newton"}, "local"),
        ({"rho": 0.0}, "rho"),
        ({"local_epochs": 0}, "local_epochs"),
        ({"l2": -1.0}, "l2"),
    ],
)
def test_what_cannot_work_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        parse(ADMMOptions, given, where="optimizer")


def test_an_epoch_is_a_pass_as_far_as_it_is_known() -> None:
    assert ADMM(ADMMOptions()).steps_per_round(7) == 7
    assert ADMM(ADMMOptions(local="sgd")).steps_per_round(7) == 70
    assert ADMM(ADMMOptions(local="sgd", local_epochs=2)).steps_per_round(7) == 14


def test_mini_batches_that_diverge_end_the_run_in_words() -> None:
    rows = problem("least squares")
    with pytest.raises(RunError, match="diverged") as failed:
        ranks(rows, "least squares", ADMMOptions(local="sgd", learning_rate=1e6), size=2, rounds=30)
    assert "learning_rate" in str(failed.value.hint)


def test_it_goes_on_from_given_parameters() -> None:
    """From the optimum nothing moves, but for what ranks have to learn about each other."""
    rows, options = problem("logistic"), ADMMOptions(l2=1e-2)
    best = solution(ranks(rows, "logistic", options, size=2, rounds=300))
    again = Training(ADMM(options), MODELS["logistic"], rows, 300, 100, 60.0, size=2, initial=best)
    again.run()
    figures = again.witnesses[0].figures
    assert figures[0]["loss"] < 0.9 * np.log(2)
    np.testing.assert_allclose(solution(again), best, atol=2e-3 * float(np.abs(best).max()))


def test_a_job_ends_once_it_has_converged(tmp_path: Path) -> None:
    rows = problem("logistic")
    values: dict[str, Any] = {
        "store": tmp_path.as_uri(),
        "workers": 3,
        "provider": "inline",
        "rounds": 300,
        "batch_size": 50,
        "data": {"validation": 0.2},
        "optimizer": {"name": "admm", "l2": 1e-2},
    }
    record = run_job(Job.from_mapping(values), arrays=(rows.x, rows.y.astype(np.int64)))
    assert record["stop_reason"] == "converged"
    assert record["rounds"] < 300
    values["optimizer"] = {"name": "admm", "relaxation": 3.0}
    with pytest.raises(LambdaMLError, match=r"optimizer\.relaxation"):
        run_job(Job.from_mapping(values), arrays=(rows.x, rows.y.astype(np.int64)))
