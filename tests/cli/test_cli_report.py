"""``lambdaml report``: what the page says, and how it is written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from browser import Browser
from cli_help import everything_in, lambdaml, printed
from report_help import HOSTILE, changed, show

from lambdaml_core.run.records.history import CLASSES, RunHistory

pytest_plugins = ["page_fixtures"]

# --- what the text says ---------------------------------------------------------------------------------------


def test_the_page_says_what_ran_and_what_came_of_it(browser: Browser, report: Path, history: RunHistory) -> None:
    browser.open(report)
    text = browser.evaluate("document.body.innerText")
    r = history["record"]
    for word in (
        *(r["run"], "succeeded", "logistic_regression", "ga_sgd", "learning_rate = 1.0", "rows.libsvm", "inline"),
        *(r["store"], r["channel"], "K = 1: AllReduce by a leader", "one fingerprint", str(r["model_sha256"])),
        *(f"{r['loss']:.4g}", f"{r['accuracy']:.4g}", f"{r['auc']:.4g}", f"{r['train_loss']:.4g}"),
    ):
        assert word in text, word
    facts = dict(
        zip(
            *(browser.evaluate(f"[...document.querySelectorAll('{t}')].map(e => e.innerText)") for t in ("dt", "dd")),
            strict=True,
        )
    )
    assert facts["seed"] == "0"
    assert facts["batch"] == "50 rows over all workers"
    assert facts["requests"] == f"{sum(c['count'] for c in history['costs'] if c['charge'] in CLASSES):,}"


def test_settings_that_most_jobs_leave_out(browser: Browser, history: RunHistory, tmp_path: Path) -> None:
    plain = show(browser, history, tmp_path)
    rare = changed(history)
    rare["job"] |= {"class_weight": {"yes": 2.5}, "init_from": "file:///m", "stop": {"loss": 0.1, "seconds": None}}
    rare["job"] |= {"evaluate": 7, "data": {"source": "x", "format": {"name": "csv", "header": False}}}
    text = show(browser, rare, tmp_path)
    for said in ('{"yes": 2.5}', "file:///m", '{"loss": 0.1}', "7 rounds", "csv (header = false)"):
        assert said in text
        assert said not in plain


def test_tables_hold_what_charts_show(browser: Browser, report: Path, history: RunHistory) -> None:
    browser.open(report)
    script = "[...document.querySelectorAll('details tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    rows = browser.evaluate(script)
    assert [row[0] for row in rows] == [str(look["round"]) for look in history["looks"]]
    assert [row[4] for row in rows] == [f"{look['figures']['loss']:.4g}" for look in history["looks"]]
    for svg in ("svg.chart", "svg.timeline", "svg.means"):
        assert browser.evaluate(f"document.querySelector('{svg} > title').textContent")
        assert browser.evaluate(f"document.querySelector('{svg} > desc').textContent")
        assert browser.evaluate(f"document.querySelector('{svg}').getAttribute('role')") == "img"


def test_requests_by_worker_and_what_they_cost(browser: Browser, history: RunHistory, tmp_path: Path) -> None:
    priced = changed(history, record={"cost_usd": 0.125})
    for cost in priced["costs"]:
        if (cost["place"], cost["charge"]) == ("channel", "put"):
            cast(Any, cost).update(usd_each=5e-6, usd=0.125, count=25_000)
        if (cost["place"], cost["charge"]) == ("channel", "received"):
            cast(Any, cost).update(usd_each=6e-13, usd=0.0018, count=3_000_000_000)
        if (cost["place"], cost["charge"]) == ("worker", "launches"):
            cast(Any, cost).update(usd_each=2e-7, usd=6e-7, count=3)
    text = show(browser, priced, tmp_path)
    assert re.search(r"launches\s+3\s+\$2e-07\s+\$6e-07", text)
    assert re.search(r"channel\s+put\s+25,000\s+\$0\.005\s+\$0\.125", text)
    assert re.search(r"channel\s+received\s+3 GB\s+\$0\.0006\s+\$0\.0018", text)
    assert "Nobody asks money" not in text
    for worker in history["workers"]:
        assert worker["channel"] is not None
        counts = r"\s+".join(f"{worker['channel'][name]:,}" for name in ("put", "get", "delete", "list"))
        assert re.search(rf"{worker['rank']}\s+{counts}", text)


# --- other runs -----------------------------------------------------------------------------------------------


def test_a_run_that_learnt_numbers(home: Path, browser: Browser) -> None:
    settings = ("--set", "model=least_squares", "--set", "optimizer.learning_rate=0.1", "--set", "workers=1")
    run = printed(lambdaml(home, "train", "job.toml", "--json", *settings))["run"]
    assert lambdaml(home, "report", run, "--out", "numbers.html").returncode == 0
    browser.open(home / "numbers.html")
    text = browser.evaluate("document.body.innerText")
    assert "R² over rounds" in text
    assert "one worker exchanges nothing" in text
    assert "accuracy" not in text
    assert browser.complaints == []


def test_a_run_that_diverged(home: Path, browser: Browser) -> None:
    settings = ("--set", "model=least_squares", "--set", "optimizer.learning_rate=1000", "--set", "name=wild")
    assert lambdaml(home, "train", "job.toml", *settings, "--set", "epochs=100").returncode == 1
    (run,) = [path.name for path in (home / "store" / "runs").glob("*-wild-*")]
    assert lambdaml(home, "report", run, "--out", "wild.html").returncode == 0
    browser.open(home / "wild.html")
    text = browser.evaluate("document.body.innerText")
    assert f"{run}failed" in text.replace("\n", "")
    assert text.count("training diverged") >= 3  # why the run ended, and the worker's own error
    assert browser.complaints == []


# --- text from others -----------------------------------------------------------------------------------------


def test_text_from_others_is_text(browser: Browser, history: RunHistory, tmp_path: Path) -> None:
    r: dict[str, Any] = {"run": HOSTILE, "status": "failed", "stop_reason": HOSTILE, "metrics": {HOSTILE: 1.0}}
    bad = changed(history, record=r | {"store": HOSTILE, "channel": HOSTILE, "optimizer": HOSTILE})
    bad["job"]["data"]["source"] = bad["job"]["model"]["name"] = HOSTILE
    bad["job"]["optimizer"][HOSTILE] = HOSTILE
    bad["workers"][1]["error"] = HOSTILE + "\u202e\ud800\x00"
    for look in bad["looks"]:
        look["figures"][HOSTILE] = 1.0
    text = show(browser, bad, tmp_path)
    assert browser.evaluate("document.title") == f"{HOSTILE} · LambdaML"
    assert text.count(HOSTILE) >= 8
    assert browser.evaluate("document.querySelectorAll('img, script').length") == 1
    assert len(browser.requests) == 1


def test_a_hostile_name_of_a_file(home: Path, browser: Browser) -> None:
    name = "<img src=x onerror=alert(1)>&amp;.libsvm"
    (home / name).write_bytes((home / "rows.libsvm").read_bytes())
    run = printed(lambdaml(home, "train", "job.toml", "--json", "--set", f"data.source={name}"))["run"]
    assert lambdaml(home, "report", run, "--out", "hostile.html").returncode == 0
    browser.open(home / "hostile.html")
    assert name in browser.evaluate("document.body.innerText")
    assert (browser.complaints, len(browser.requests)) == ([], 1)


def test_the_page_asks_for_nothing_and_complains_of_nothing(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.picture()
    assert browser.requests == [report.as_uri()]
    assert browser.complaints == []
    markup = report.read_text()
    assert not re.search(r"""\s(src|href|srcset|action)=|url\(|@import|https?://""", markup)


def test_a_page_that_was_tampered_with_would_be_noticed(browser: Browser, report: Path, tmp_path: Path) -> None:
    """Its own policy refuses scripts and loads that are not its own: the check above can fail."""
    evil = "<script>document.title = 'taken'</script><img src='http://127.0.0.1:9/x.png'></main>"
    path = tmp_path / "evil.html"
    path.write_text(report.read_text().replace("</main>", evil))
    browser.open(path)
    assert browser.evaluate("document.title") != "taken"
    assert len(browser.complaints) >= 2


# --- the command ----------------------------------------------------------------------------------------------


def test_json_is_the_history(home: Path, history: RunHistory) -> None:
    before = everything_in(home)
    told = printed(lambdaml(home, "report", history["record"]["run"], "--json"))
    assert told.pop("schema") == 1
    assert told == history
    assert everything_in(home) == before


def test_where_the_page_goes(home: Path, report: Path, history: RunHistory, tmp_path: Path) -> None:
    run = history["record"]["run"]
    page = report.read_bytes()
    assert lambdaml(home, "report", run, "--out", "-").stdout.encode() == page
    out = tmp_path / "page.html"
    out.write_text("an older page")
    (tmp_path / "link.html").symlink_to(out)
    told = printed(lambdaml(home, "report", run, "--out", str(tmp_path / "link.html"), "--json"))
    assert told["record"]["run"] == run
    assert (tmp_path / "link.html").is_symlink()
    assert out.read_bytes() == page
    done = lambdaml(home, "report", run, "--out", "/dev/null")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("/dev/null").is_char_device()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.html", "page.html"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "nobody"], r"there is no run nobody in the store"),
        (["report", "../x"], r"cannot be the name of a run"),
        (["report", "RUN", "--out", "no/such/folder.html"], r"no/such/folder\.html cannot be written: No such file"),
        (["report", "RUN", "--out", "store"], r"store cannot be written: Is a directory"),
        (["report", "RUN", "--out", "/dev/full"], r"/dev/full cannot be written: No space left"),
        (["report", "RUN", "--out", "-", "--json"], r"cannot both go to standard output"),
        (["report"], r"Missing argument 'RUN'"),
    ],
)
def test_what_is_refused(home: Path, history: RunHistory, words: list[str], message: str) -> None:
    before = everything_in(home)
    done = lambdaml(home, *(history["record"]["run"] if word == "RUN" else word for word in words))
    assert done.returncode == 2
    said = json.loads(done.stdout)["error"]["message"] if "--json" in words else done.stderr.splitlines()[0]
    assert re.search(message, said)
    assert everything_in(home) == before
