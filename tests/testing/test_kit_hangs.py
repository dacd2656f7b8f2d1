"""A plugin that hangs ends as a failure that says where; in C code as the end of the process, which says it too.

Each storage here waits for something that never comes, for as long as it is let. However slow the machine is, the limit
of its law comes when it hangs first, and not before.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from authors import pytest_of_an_author

HANGS = '''
    import ctypes
    import signal
    import threading
    from collections.abc import Callable
    from types import SimpleNamespace

    import pytest

    from lambdaml_core.options import NoOptions
    from lambdaml_core.storage import StorageURL
    from lambdaml_core.storage.base import Storage
    from lambdaml_core.storage.memory import MemoryStorage
    from lambdaml_core.testing import pytest_plugin
    from lambdaml_core.testing.storage import StorageLaws

    pytest_plugin.GRACE_S = 0.5
    items = []


    class Hung(MemoryStorage):
        def get(self, key):
            WAIT
            return super().get(key)

        def list(self, prefix):
            """Every sequence of calls begins with one, and few of them may fit in their time."""
            WAIT
            return super().list(prefix)


    class TestHung(StorageLaws):
        limit_s = 60.0
        patience_s = 2.0

        @pytest.fixture(autouse=True)
        def item(self, request) -> None:
            items.append(request.node)

        @pytest.fixture
        def connect(self) -> Callable[[], Storage]:
            return lambda: Hung(StorageURL("memory", "hung"), NoOptions())


    class Never(threading.Event):
        """With the first wait the limit ends: within it, whenever the signal comes; and once."""

        ended = False

        def wait(self, timeout=None):
            if not self.ended:
                self.ended = True
                signal.setitimer(signal.ITIMER_REAL, 0.01)
            return super().wait(timeout)


    never = Never()


    def stubborn():
        while True:
            try:
                never.wait()
            except Exception:
                pass


    class Sender(threading.Thread):
        begun = threading.Event()

        def run(self):
            self.begun.set()
            threading.Event().wait()

        def join(self, timeout=None):
            never.wait(timeout)


    def in_a_thread():
        thread = Sender(name="sender of acme", daemon=True)
        thread.start()
        thread.begun.wait()
        thread.join()


    def in_c():
        """Lock a lock of C twice, and keep Python's: no handler of a signal and no thread of Python runs again."""
        lock, library = ctypes.create_string_buffer(256), ctypes.PyDLL(None)
        lock_it = library.pthread_mutex_lock
        lock_it(lock)
        pytest_plugin.pytest_timeout_set_timer(items[-1], SimpleNamespace(timeout=3.0, method="signal"))
        lock_it(lock)
'''

IN_HYPOTHESIS = "test_two_clients_are_one_dictionary"


def hung(wait: str) -> str:
    return HANGS.replace("WAIT", wait)


@pytest.mark.parametrize(("law", "parallel"), [("test_put_replaces", "0"), (IN_HYPOTHESIS, "0"), (IN_HYPOTHESIS, "1")])
def test_a_hang_fails_the_law_and_says_where(law: str, parallel: str, tmp_path: Path) -> None:
    ran = pytest_of_an_author(tmp_path, hung("stubborn()"), "-k", law, "-n", parallel)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "1 failed" in ran.stdout
    assert "no end within 60 s" in ran.stdout
    assert "in stubborn\n    never.wait()" in ran.stdout


def test_what_hangs_in_a_thread_of_the_plugins_is_shown_too(tmp_path: Path) -> None:
    ran = pytest_of_an_author(tmp_path, hung("in_a_thread()"), "-k", "test_put_replaces", "-n", "1")
    assert "thread.join()" in ran.stdout
    stack = ran.stdout.partition("thread sender of acme:")[2]
    assert ", in run\n" in stack


def test_threads_of_a_law_that_do_not_come_back_are_shown(tmp_path: Path) -> None:
    ran = pytest_of_an_author(tmp_path, hung("threading.Event().wait()"), "-k", "test_one_client_serves_many_threads")
    assert "1 failed" in ran.stdout, ran.stdout
    assert "no thread came back within" in ran.stdout
    assert ", in get\n" in ran.stdout


def test_after_a_hang_the_other_laws_of_the_suite_are_not_tried(tmp_path: Path) -> None:
    ran = pytest_of_an_author(tmp_path, hung("stubborn()"), "-rs", "-k", "ValueLaws or test_put or test_delete")
    assert "1 failed" in ran.stdout, ran.stdout
    assert " skipped" in ran.stdout
    assert "has hung: mend that first" in ran.stdout


def test_a_hang_in_c_code_ends_the_process_with_the_stacks(tmp_path: Path) -> None:
    ran = pytest_of_an_author(tmp_path, hung("in_c()"), "-k", "test_put_replaces")
    assert ran.returncode == 1
    assert "in in_c" in ran.stderr
    assert "in test_put_replaces" in ran.stderr


def test_a_hang_in_c_code_fails_the_law_where_there_are_other_processes(tmp_path: Path) -> None:
    ran = pytest_of_an_author(tmp_path, hung("in_c()"), "-k", "test_put_replaces", "-n", "1")
    assert ran.returncode == 1
    assert "1 failed" in ran.stdout
    assert "crashed while running 'test_author.py::TestHung::test_put_replaces'" in ran.stdout


def test_what_takes_long_at_the_exit_of_the_process_is_no_hang(tmp_path: Path) -> None:
    """Longer than a law that has hung may take to end, as pytest does where it removes many old files."""
    at_exit = "\n    import atexit\n    atexit.register(threading.Event().wait, 3 * pytest_plugin.GRACE_S)\n"
    ran = pytest_of_an_author(tmp_path, hung("pass") + at_exit, "-k", "test_put_replaces")
    assert ran.returncode == 0, ran.stdout + ran.stderr


QUICK = """
    import pytest
    from lambdaml_core.testing.storage import StorageLaws

    class TestIt(StorageLaws):
        MARK
        def test_of_the_author(self, request):
            print("limits", [mark.args[0] for mark in request.node.iter_markers("timeout")])

    def test_beside_the_suite(request):
        print("limits", [mark.args[0] for mark in request.node.iter_markers("timeout")])
"""


@pytest.mark.parametrize(
    ("mark", "words", "limits"),
    [
        ("", (), ["[120.0]", "[]"]),
        ("@pytest.mark.timeout(7)", (), ["[7]", "[]"]),
        ("limit_s = 9.0", (), ["[9.0]", "[]"]),
        ("", ("--timeout", "30"), ["[]", "[]"]),
        ("", ("-p", "no:timeout"), ["[]", "[]"]),
    ],
)
def test_an_author_may_set_limits(mark: str, words: tuple[str, ...], limits: list[str], tmp_path: Path) -> None:
    ran = pytest_of_an_author(tmp_path, QUICK.replace("MARK", mark), "-sq", "-k", "of_the_author or beside", *words)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [line.partition("limits ")[2] for line in ran.stdout.splitlines() if "limits" in line] == limits


def test_laws_do_not_run_without_limits_by_accident(tmp_path: Path) -> None:
    alone = ["-p", "lambdaml_core.testing.pytest_plugin"]
    ran = pytest_of_an_author(tmp_path, QUICK.replace("MARK", ""), *alone, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert 'pip install "lambdaml[testing]"' in ran.stderr + ran.stdout
