"""Storage URLs survive being written and read, and never tell a secret."""

from __future__ import annotations

import dataclasses
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.errors import URLError
from lambdaml_core.storage import StorageURL

texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.text("{}:/?#[]@!&=+%*,. env\n", max_size=12)
variables = st.sampled_from(["{env:SECRET}", "a{env:_B2}c"])
words = texts | variables
hosts = words | st.sampled_from(["[::1]", "[fe80::1]", "bucket", "Name.with-dots", "[", "]:1", "a:1"])
urls = st.builds(
    StorageURL,
    scheme=st.from_regex(r"[a-z][a-z0-9+.-]{0,5}", fullmatch=True),
    host=hosts,
    port=st.none() | st.integers(0, 65535),
    user=words,
    password=words,
    path=st.just("") | words.map("/".__add__),
    query=st.dictionaries(words, words, max_size=3),
)


@given(url=urls)
def test_what_is_written_is_read(url: StorageURL) -> None:
    assert StorageURL.parse(url.text()) == url


@given(url=urls, password=words)
def test_what_is_shown_does_not_depend_on_the_password(url: StorageURL, password: str) -> None:
    shown, other = (dataclasses.replace(url, password=p) for p in ("secret", password or "other"))
    assert (str(shown), repr(shown)) == (str(other), repr(other))
    assert str(StorageURL.parse(str(shown))) == str(shown)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory://name", StorageURL("memory", "name")),
        ("file:///data/my%20runs", StorageURL("file", path="/data/my runs")),
        (
            "redis://me:{env:PW}@host:6380/0?tls=yes",
            StorageURL("redis", "host", 6380, "me", "{env:PW}", "/0", {"tls": "yes"}),
        ),
        ("redis://{env:USER}:{env:PW}@{env:HOST}", StorageURL("redis", "{env:HOST}", None, "{env:USER}", "{env:PW}")),
        ("redis+unix:///run/redis/r.sock?db=2", StorageURL("redis+unix", path="/run/redis/r.sock", query={"db": "2"})),
        (
            "fault+redis+unix://me:{env:PW}@/run/my%20socket?fault_seed=1",
            StorageURL("fault+redis+unix", "", None, "me", "{env:PW}", "/run/my socket", {"fault_seed": "1"}),
        ),
        ("redis://:p%40ss%2Fword@host:", StorageURL("redis", "host", None, "", "p@ss/word")),
        ("x://[::1]:080/a", StorageURL("x", "[::1]", 80, path="/a")),
        ("x://[::1]/a", StorageURL("x", "[::1]", path="/a")),
        ("file:///data/%FF", StorageURL("file", path="/data/\udcff")),  # a name that is no UTF-8
        ("s3://bucket?a=1+2&b=%2B&c=", StorageURL("s3", "bucket", query={"a": "1 2", "b": "+", "c": ""})),
    ],
)
def test_parse(text: str, expected: StorageURL) -> None:
    assert StorageURL.parse(text) == expected
    assert StorageURL.parse(expected.text()) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/data/runs",
        "s3:/bucket",
        "user:hunter2@host/path",
        "REDIS://:hunter2@host",
        "redis:user:hunter2@host",
        "redis://user:hunter2",  # the host was forgotten
        "redis://user:hunter2@host:port",
        "redis://user:hunter2@host:99999",
        "redis://user:hunter2@[::1",
        "redis://user:hunter2@host#fragment",
        "redis://user:hunter2@host?a=1&a=2",
        "redis://user:hunter2/more@host:x",
        "redis://user:hunter2@more@host:x",
        "redis://user:hunter2\u2100@host:1",
    ],
)
def test_what_is_no_url_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(URLError) as refused:
        StorageURL.parse(text)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value)).replace(f'"{text}"', "")
    assert "hunter2" not in f"{refused.value} {refused.value.hint}"


def test_within_a_layer_is_the_whole_of_another_url() -> None:
    url = StorageURL.parse("fault+redis+unix://me:{env:PW}@/run/r.sock?fault_seed=1&db=2")
    assert url.layer() == "fault"
    assert url.inner() == StorageURL.parse("redis+unix://me:{env:PW}@/run/r.sock?db=2")
    assert str(url.inner()) == "redis+unix://me:***@/run/r.sock?db=2"


def test_variables_are_read_where_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHO", "me/you")
    monkeypatch.setenv("PW", "p@ss:{env:WHO}")
    url = StorageURL.parse("x://{env:WHO}:{env:PW}@h-{env:WHO}/{env:WHO}/p?token={env:PW}&plain=1")
    assert url.resolved() == StorageURL(
        "x", "h-me/you", None, "me/you", "p@ss:{env:WHO}", "/me/you/p", {"token": "p@ss:{env:WHO}", "plain": "1"}
    )
    assert url.host == "h-{env:WHO}"


def test_what_was_read_from_the_environment_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    resolved = StorageURL.parse("x://u:{env:TOKEN}@host/path?token={env:TOKEN}&plain=1").resolved()
    assert str(dataclasses.replace(resolved, path="/other")) == "x://u:***@host/other?token=***&plain=1"
    assert "hunter2" not in repr(resolved)
    assert resolved.query["token"] == "hunter2"  # noqa: S105 - the secret of this test


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    with pytest.raises(URLError, match="NOT_THERE is not set") as refused:
        StorageURL.parse("x://u:{env:NOT_THERE}@host").resolved()
    assert "where the workers run" in str(refused.value.hint)
