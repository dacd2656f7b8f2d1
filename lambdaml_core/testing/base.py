"""What all suites share: a law cannot be overridden in silence, and none can hang a test run."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

_KIT = __name__.rpartition(".")[0]


class Laws:
    """A suite. A subclass gives its fixture, and leaves the laws as they are.

    A law that a plugin cannot keep yet is overridden with its reason, and is then shown in every run::

        @pytest.mark.xfail(reason="the service lists with a delay of a second")
        def test_list_is_complete(self, storage, other):
            super().test_list_is_complete(storage, other)
    """

    limit_s: ClassVar[float] = 120.0
    """Seconds after which a law has hung, and fails with the stacks of all threads; the suite's other laws are then not
    tried. ``pytest.mark.timeout`` on a law, or ``--timeout`` on the command line, says otherwise."""

    def __init_subclass__(cls, **keys: Any) -> None:
        super().__init_subclass__(**keys)
        if _of_the_kit(cls):
            return
        for name in laws_of(cls):
            override = next(vars(base)[name] for base in cls.__mro__ if name in vars(base))
            if override is not _law(cls, name) and not _excused(override):
                raise TypeError(
                    f"{cls.__name__} overrides the law {name}: leave it as it is, or mark the override with "
                    "pytest.mark.xfail(reason=...), which says why the law cannot hold yet"
                )


def laws_of(suite: type) -> list[str]:
    """The names of the laws of a suite, or of a subclass of one; tests of the author's own are none of them."""
    names = {name for base in suite.__mro__ if _of_the_kit(base) for name in vars(base)}
    return sorted(name for name in names if name.startswith("test_"))


def doc_of(suite: type, law: str) -> str:
    """What a law says: the law, why, and what to fix; the kit's own words also where it is overridden."""
    return inspect.getdoc(_law(suite, law)) or ""


def _law(suite: type, name: str) -> Any:
    return next(vars(base)[name] for base in suite.__mro__ if _of_the_kit(base) and name in vars(base))


def _of_the_kit(cls: type) -> bool:
    return cls.__module__.startswith(f"{_KIT}.")


def _excused(override: Any) -> bool:
    marks = getattr(override, "pytestmark", [])
    return any(mark.name == "xfail" and mark.kwargs.get("reason") for mark in marks)
