"""Any rank goes on from any checkpoint, whatever prefix of the results is there: no byte comes out different."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from replay_ranks import ROUNDS, Case, cases, ranks

from lambdaml_core.testing.optimizer_laws.ranks import Notebook, Told, content, fresh_channel, results
from lambdaml_core.testing.threads import together

MOST = min(300, settings().max_examples)  # each is two runs of threads, some tenths of a second


@settings(max_examples=MOST)
@given(case=cases(), data=st.data())
def test_replacements_with_any_prefix_of_results_end_with_the_same_bytes(case: Case, data: st.DataObject) -> None:
    undisturbed, channel = ranks(case).quiet()
    assert all(told.outcome.params.tobytes() == undisturbed[0].outcome.params.tobytes() for told in undisturbed)
    found = results(channel)
    cut = data.draw(st.integers(0, undisturbed[0].sequence), label="first collective that is not whole")
    chunks = [chunk for number, chunk in found if number == cut]
    there = data.draw(st.sets(st.sampled_from(chunks)) if chunks else st.just(set()), label="its chunks that are there")
    before = fresh_channel()
    for (number, chunk), (key, value) in found.items():
        if number < cut or (number == cut and chunk in there):
            before.put(key, [value])
    starts = {
        rank: data.draw(st.sampled_from([None, *(c for c in told.notebook.boundaries if c.sequence <= cut)]))
        for rank, told in enumerate(undisturbed)
    }
    for rank, told in enumerate(ranks(case).run(before, starts)):
        start = starts[rank]
        assert told.after(0) == undisturbed[rank].after(start.round if start else 0)
        assert told.sequence == undisturbed[rank].sequence
        assert told.outcome.params.__array_interface__["data"][0] % 64 == 0
        if not case.private and case.size > 1:
            assert all(number >= cut for number in told.filled)


@settings(max_examples=MOST // 2)
@given(case=cases(), due=st.sets(st.integers(1, ROUNDS)), other=st.sets(st.integers(1, ROUNDS)))
def test_checkpoints_are_at_the_same_rounds_on_all_ranks_and_in_all_replays(
    case: Case, due: set[int], other: set[int]
) -> None:
    """And change nothing: not even a replacement of rank 0 with another mind does."""
    plain, _ = ranks(case).quiet()
    undisturbed, channel = ranks(case).quiet(due)
    rounds = undisturbed[0].outcome.rounds
    for rank, told in enumerate(undisturbed):
        assert told.after(0) == plain[rank].after(0)
        assert set(told.notebook.saved) == {round for round in due if round < rounds}
        assert told.notebook.asked == (list(range(1, rounds + 1)) if rank == 0 else [])
        assert [c.round for c in told.notebook.boundaries] == list(range(1, rounds))
    again = ranks(case).run(channel, dict.fromkeys(range(case.size)), rounds=other)
    for rank, told in enumerate(again):
        assert told.after(0) == plain[rank].after(0)
        if case.size > 1:
            assert set(told.notebook.saved) == set(undisturbed[0].notebook.saved)


def test_a_checkpoint_is_of_its_moment() -> None:
    """What was saved after a round is what the boundary of that round captures: state, memory and sequence number."""
    (told,), _ = ranks(Case(size=1, evaluate=4)).quiet({2, 5})
    for round, saved in told.notebook.saved.items():
        captured = told.notebook.boundaries[round - 1]
        assert (saved.round, saved.sequence) == (captured.round, captured.sequence)
        assert saved.round == round
        assert saved.sequence == 1 + round + (round > 4)  # a broadcast, rounds, a look
        assert saved.state.params.tobytes() == captured.state.params.tobytes()
        assert saved.trainer["losses"].tolist() == [p.loss for p in told.history[round // 4 * 4 : round]]
    assert len({c.state.params.tobytes() for c in told.notebook.boundaries}) == ROUNDS - 1


def test_who_makes_no_checkpoints_is_not_asked_for_them() -> None:
    """And no message carries an answer."""
    case, channel = Case(size=2), fresh_channel()

    def work(rank: int) -> Told:
        return ranks(case).train(ranks(case).engine(rank, channel, None, restored=False), Notebook(saves=False))

    (undisturbed, _), asked = ranks(case).quiet()
    for told in together(lambda: work(0), lambda: work(1), limit_s=60):
        assert told.notebook.asked == []
        assert told.after(0) == undisturbed.after(0)
    with_answers = sum(len(value) for _, value in results(asked).values())
    assert sum(len(value) for _, value in results(channel).values()) < with_answers


def test_a_keeper_sees_where_an_attempt_begins() -> None:
    """Before its first round, to refuse what could not be saved after it."""
    case = Case(size=1)
    (told,), channel = ranks(case).quiet()
    start = told.notebook.boundaries[2]
    (again,) = ranks(case).run(channel, {0: start})
    assert [c.round for c in told.notebook.began] == [0]
    assert [content(c) for c in again.notebook.began] == [content(start)]
