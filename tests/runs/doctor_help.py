"""``lambdaml doctor`` as a process of its own, in an environment that is ill in a way of our choice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

PLUGIN = """
from dataclasses import dataclass
from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.options import option
from lambdaml_core.specs import ProviderSpec, StorageSpec

LAMBDAML_API = 0

@dataclass(frozen=True)
class OddOptions:
    does: str = option("well", help="what is wrong with it")
    says: str = option("", help="what it quotes")

@hookimpl
def lambdaml_storages():
    yield StorageSpec(name="odd", schemes=("odd",), factory="lambdaml_odd.odd:Odd", options=OddOptions)

@hookimpl
def lambdaml_providers():
    yield ProviderSpec(name="odd", factory="lambdaml_odd.odd:OddProvider", options=OddOptions)
"""

IMPATIENT = """
import sys
import threading

threading.hangs = threading.Event()

if "--patience" in sys.orig_argv:
    patience = int(sys.orig_argv[sys.orig_argv.index("--patience") + 1])
    wait = threading.Event.wait
    known = set()  # threads that wait for an import

    def waits_for_an_import(ident, frame):
        if (frame.f_code.co_filename, frame.f_code.co_name) != ("<frozen importlib._bootstrap>", "acquire"):
            return False
        return frame.f_locals["self"].owner not in (None, ident)

    def waiting():
        return {ident for ident, frame in sys._current_frames().items() if waits_for_an_import(ident, frame)}

    def somebody_hangs():
        return threading.hangs.is_set() or not waiting() <= known

    def wait_for_what_may_come(event, timeout=None):
        if timeout != patience:
            return wait(event, timeout)
        while not (event.is_set() or somebody_hangs()):
            wait(event, 0.01)
        known.update(waiting())
        threading.hangs.clear()
        return event.is_set()

    threading.Event.wait = wait_for_what_may_come
"""
"""A ``sitecustomize``: patience ends when something says that it hangs from now on, or waits for an import that hangs;
and not before, since a clock would take what is only slow for it on some machine."""

ODD = """
import sys
import threading
from dataclasses import replace
from pathlib import Path

from lambdaml_core.errors import StorageDenied, StorageUnavailable
from lambdaml_core.findings import Finding
from lambdaml_core.options import NoOptions
from lambdaml_core.provider.local import LocalProvider
from lambdaml_core.storage.memory import MemoryStorage
from lambdaml_core.storage.url import StorageURL
from lambdaml_core.builtin import LocalOptions


def hang():
    threading.hangs.set()
    threading.Semaphore(0).acquire()


class Odd(MemoryStorage):
    caps = replace(MemoryStorage.caps, scope="network", durable=True, latency_s=0.0)  # no machine is too slow for it

    def __init__(self, url, options):
        super().__init__(StorageURL("memory", url.host), NoOptions())
        self._url, self._does, self._says = url, options.does, options.says
        if self._does == "cannot be built":
            raise TypeError("a stupid mistake")
        if self._does == "never creates once":
            self.caps = replace(self.caps, creates_once=False)
        if self._does == "slow":
            self.caps = replace(self.caps, latency_s=1e-9)

    def put(self, key, data, *, if_absent=False, ttl_s=None):
        if self._does == "hangs":
            hang()
        if self._does == "hangs for ever":
            thread = threading.Thread(target=hang)
            thread.start()
            thread.join()
        if self._does == "is away":
            raise StorageUnavailable(f"no connection to {self._says} at {self._url.password}")
        if self._does == "denies":
            raise StorageDenied("you may not put")
        if self._does == "fails":
            raise RuntimeError(f"connection to {self._says} lost")
        print("a plugin that prints")
        return super().put(key, data, if_absent=if_absent and self._does != "creates twice", ttl_s=ttl_s)

    def get(self, key):
        return super().get(key) if self._does != "changes" else b"x" + super().get(key)

    def delete(self, keys):
        if self._does != "keeps":
            super().delete(keys)

    def list(self, prefix):
        found = list(super().list(prefix))
        return iter(found[:-1] if self._does == "forgets" else found)

    def checks(self):
        if self._does == "checks":
            well = Path("fixed").exists()
            yield Finding(what="bucket policy", state="ok", said=f"read with {self._says}")
            yield Finding(
                what="clock", state="ok" if well else "problem", said="of the service", remedy="press a button",
                values={"skew_s": 7, "seen": self._says}, fix=Path("fixed").touch,
            )
            yield Finding(what="region", state="warning", said="far\\naway", remedy="come nearer", fix=self._break)
            yield Finding(what="silent", state="problem", said="no remedy")
        if self._does == "raises in checks":
            raise RuntimeError(f"checks failed for {self._says}")
        if self._does == "hangs in checks":
            hang()
        if self._does == "yields nonsense":
            yield "all well"

    def _break(self):
        raise OSError("the button is broken")


class OddProvider(LocalProvider):
    def __init__(self, options):
        super().__init__(LocalOptions())
        self._does = options.does

    def plan(self, job):
        if self._does == "hangs":
            hang()
        return super().plan(job)

    def checks(self):
        yield Finding(what="role", state="problem", said="has no right to start functions", remedy="attach the policy")
        sys.exit("a plugin that exits")
"""


def write_plugin(folder: Path, *, requires: Sequence[str] = (), plugin: str = PLUGIN, name: str = "odd") -> Path:
    """A distribution ``lambdaml-NAME`` in a folder, as pip leaves it there. Returns the folder, for the path."""
    package = folder / f"lambdaml_{name}"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(plugin)
    (package / f"{name}.py").write_text(ODD)
    write_module(folder, "sitecustomize", IMPATIENT)
    entry = f"[lambdaml]\n{name} = lambdaml_{name}.plugin\n"
    return write_distribution(folder, f"lambdaml-{name}", "1.0", requires=requires, entry_points=entry)


def write_distribution(
    folder: Path, name: str, version: str, *, requires: Sequence[str] = (), entry_points: str = ""
) -> Path:
    """What pip knows of a distribution. Returns the folder."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    needed = "".join(f"Requires-Dist: {each}\n" for each in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}")
    (info / "entry_points.txt").write_text(entry_points)
    return folder


def write_module(folder: Path, name: str, text: str) -> Path:
    """A module that is found before any installed one. Returns the folder."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return folder


class Diagnosis:
    """What a run of the command says."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        assert "Traceback" not in done.stderr, done.stderr
        self.code, self.text, self.errors = done.returncode, done.stdout, done.stderr
        assert done.stdout.count("\n") == 1, done.stdout + done.stderr
        self.json: dict[str, Any] = json.loads(done.stdout)
        self.findings: list[dict[str, Any]] = self.json["findings"]
        for finding in self.findings:
            assert finding["state"] == "ok" or finding["remedy"], finding
        states = [finding["state"] for finding in self.findings]
        assert self.json["counts"] == {state: states.count(state) for state in ("ok", "warning", "problem")}
        assert self.code == (1 if "problem" in states else 0)

    def of(self, *states: str) -> dict[tuple[str, str], dict[str, Any]]:
        """Findings of these states by group and what they are about."""
        return {(f["group"], f["what"]): f for f in self.findings if f["state"] in states}

    def one(self, group: str, what: str) -> dict[str, Any]:
        """The finding of this name."""
        (found,) = (f for f in self.findings if (f["group"], f["what"]) == (group, what))
        return found


def doctor(home: Path, *words: str, before: str = "", path: Sequence[Path] = (), **environment: str) -> Diagnosis:
    """Run ``lambdaml doctor --json`` in an empty home.

    Args:
        before: commands of the shell before it, such as ``ulimit -n 64``.
        path: folders to import from before all others.
    """
    return Diagnosis(run_doctor(home, *words, "--json", before=before, path=path, **environment))


def run_doctor(
    home: Path, *words: str, before: str = "", path: Sequence[Path] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """The process that has ended, whatever it said. It is patient where nothing else is asked."""
    env = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    env |= {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "PYTHONDONTWRITEBYTECODE": "1"}
    env |= {"PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))} | environment
    env.pop("LAMBDAML_STORE", None) if "LAMBDAML_STORE" not in environment else None
    if "--patience" not in words:
        words = (*words, "--patience", "250")
    script = f'{before or ":"} && exec "$@"'
    command = ["bash", "-c", script, "bash", sys.executable, "-m", "lambdaml_core", "doctor", *words]
    return subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False)
