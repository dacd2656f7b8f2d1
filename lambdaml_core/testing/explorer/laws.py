"""The laws of collectives, by name: what holds, why, and where to look when it does not."""

from __future__ import annotations

LAWS = {
    "same_numbers": "every attempt that finishes a collective has the bytes of a plain loop over ranks. "
    "Fix who folds what: each contribution by its name, once, in rank order.",
    "no_hang": "as long as ranks that crash start again, and all of them where a result is lost, every rank finishes. "
    "Fix who puts what: everything waited for must be put by somebody, and a replacement must find what is gone.",
    "typed_errors": "only an attempt that a newer one has overtaken, or whose result the storage has lost, ends with "
    "an error, and that is ResultLost. "
    "Fix what it read: another call's value, or memory that was used again.",
    "create_once": "whoever makes a value makes the same bytes, and only one rank makes it; but a result that "
    "was lost may be brought back by all who have it. "
    "Fix keys that two calls or two ranks share.",
    "own_keys": "all values have keys that call.key makes, so that no two generations, calls or chunks share one. "
    "Fix the keys that are put together by hand.",
    "contributions_stay": "a contribution is deleted only once the result of its chunk exists. "
    "Fix the order of the two: a crash between them loses the contribution for ever.",
    "results_stay": "a result is deleted only once every rank has read it and has two complete checkpoints behind it. "
    "Fix the frontier: that of the second-newest which is written, and the minimum over all ranks.",
    "no_key_left": "a collective leaves no contribution, and results only from the frontier on, whoever is killed; but "
    "what a process creates late that is killed or runs twice may stay. Fix what is never deleted, or not adopted.",
    "no_needless_fill": "a replay that finds all results does not compute the contribution. Fix the look before.",
    "no_needless_put": "a replay that finds all results sends nothing, private state or not. Fix the look before.",
}


class LawBroken(AssertionError):
    """A law does not hold.

    Attributes:
        law: its name in LAWS.
        sentence: the scenario in words.
    """

    def __init__(self, law: str, what: str) -> None:
        super().__init__(f"{law}: {what}")
        self.law, self.what = law, what
        self.sentence = ""

    def told(self, seed: int) -> LawBroken:
        """The same with everything in its message."""
        whole = LawBroken(
            self.law, f"{self.what}\nLaw: {LAWS[self.law]}\nScenario: {self.sentence}\nFound with seed {seed}."
        )
        whole.sentence = self.sentence
        return whole
