"""The plugin is imported while another thread imports boto3, as a function's does that starts its successor in time."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import threading
from importlib.machinery import PathFinder

begun, errors = threading.Event(), []


class Waits(PathFinder):
    # The other thread has boto3's lock, and is held there until the main thread waits for it, or for another lock.
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        spec = super().find_spec(name, path, target)
        if name == "boto3":
            execute = spec.loader.exec_module

            def wait_first(module):
                begun.set()
                while threading.current_thread() is other and not waits_for_a_lock():
                    pass
                execute(module)

            spec.loader.exec_module = wait_first
        return spec


def waits_for_a_lock():
    code = sys._current_frames()[threading.main_thread().ident].f_code
    return (code.co_name, code.co_filename) == ("acquire", "<frozen importlib._bootstrap>")


def attempt(name):
    try:
        __import__(name)
    except ImportError as e:
        errors.append(e)


sys.meta_path.insert(0, Waits)
other = threading.Thread(target=attempt, args=["boto3"])
other.start()
begun.wait()
attempt(sys.argv[1])
other.join()
print(*errors or ["imported"])
"""


def imported_beside_boto3(module: str) -> str:
    """What comes of it in a new process: an error, or "imported"."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, module], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout.strip()


def test_no_half_of_boto3_is_found() -> None:
    assert imported_beside_boto3("lambdaml_dynamodb.storage") == "imported"


def test_that_the_program_finds_it() -> None:
    assert "partially initialized module 'boto3.session'" in imported_beside_boto3("boto3.session")
