"""Laws of what a storage says: no secrets, and findings that can be acted upon."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import quote

import pytest

from lambdaml_core.errors import LambdaMLError, NotSupported
from lambdaml_core.findings import SupportsChecks
from lambdaml_core.storage import StorageURL, build_storage
from lambdaml_core.storage.layers import Complete, FullStorage, Prefix
from lambdaml_core.testing.storage_laws.clients import TwoClients

_USER, _PASSWORD = "law-of-storages", "hunter2-of-the-laws"


class SecretLaws(TwoClients):
    """Laws of errors and of findings."""

    def test_errors_tell_no_password(self, url: str, prefix: str) -> None:
        """No error shows a password of the URL: not its message or hint, not what it was raised from, nor ``repr``.

        Logs are read by many. The law puts one into the URL where there is none; whether the storage refuses it or
        takes no notice is its own affair. Fix what makes messages: print ``url``, which shows it as ``***``, and chain
        no error of an SDK that shows it (``raise ... from None``).
        """
        check_no_password(url, prefix)

    def test_checks_are_findings(self, url: str, storage: FullStorage) -> None:
        """``checks`` looks and changes nothing; a finding that is not ok has a remedy, and none shows a secret.

        ``lambdaml doctor`` prints them. Fix ``checks``: what cannot be looked at is a finding too, not an error.
        """
        storage.put("kept", [b"kept"])
        check_findings(url)
        check_findings(url)
        assert bytes(storage.get("kept")) == b"kept"
        with contextlib.suppress(NotSupported):
            assert list(storage.list("")) == ["kept"]


def check_no_password(url: str, prefix: str = "") -> None:
    """Make calls that fail, and fail the law, without a word of it, if anything shows the password."""
    parsed = StorageURL.parse(url)
    if not parsed.password:
        parsed = replace(parsed, user=parsed.user or _USER, password=_PASSWORD)
    for what, said in _said(parsed.text(), prefix):
        _check_secrets(parsed, what, said)


def check_findings(url: str) -> None:
    """Fail the law unless what ``checks`` finds is well formed and tells no secret; skips what has no ``checks``."""
    with contextlib.closing(build_storage(url)) as storage:
        if not isinstance(storage, SupportsChecks):
            pytest.skip("SupportsChecks not implemented")
        for finding in storage.checks():
            said = f"{finding.said} {finding.remedy} {json.dumps(dict(finding.values))}"
            _check_secrets(StorageURL.parse(url), f"the finding on {finding.what}", said)
            assert finding.state in ("ok", "warning", "problem")
            assert finding.what
            assert finding.said
            assert "\n" not in finding.said, "one line"
            assert finding.state == "ok" or finding.remedy, f"{finding.what} needs a remedy"


def _check_secrets(url: StorageURL, what: str, said: str) -> None:
    resolved = url.resolved()
    secrets = [secret for secret in {resolved.password, *resolved.secrets} if secret]
    if any(form in said for secret in secrets for form in (secret, quote(secret), quote(secret, safe=""))):
        pytest.fail(f"{what} shows a secret of the URL", pytrace=False)


def _said(url: str, prefix: str) -> Iterator[tuple[str, str]]:
    """What a storage says of itself and of calls that cannot succeed; none of them stores anything."""
    try:
        inner = build_storage(url)
    except LambdaMLError as e:
        yield "the refusal to open it", _messages(e)
        return
    storage: FullStorage = Complete(inner)
    if prefix:
        storage = Prefix(storage, prefix)
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: storage.get("none"),
        "get of an illegal key": lambda: storage.get("../none"),
        "get_many": lambda: storage.get_many(["none"]),
        "put of an illegal key": lambda: storage.put("../none", [b"x"]),
        "put_many of an illegal key": lambda: storage.put_many({"../none": [b"x"]}),
        "delete": lambda: storage.delete(["none"]),
        "list": lambda: list(storage.list("none")),
    }
    with contextlib.closing(storage):
        yield "repr", f"{inner!r} {inner}"
        for name, call in calls.items():
            try:
                call()
            except Exception as e:  # noqa: BLE001 - other laws say which; here it is what they show
                yield f"the error of {name}", _messages(e)


def _messages(error: BaseException | None) -> str:
    """What a traceback would show of an error and of those before it."""
    text = ""
    while error is not None:
        text += f"{error!r} {error} {getattr(error, 'hint', '')}\n"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return text
