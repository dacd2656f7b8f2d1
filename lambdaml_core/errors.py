"""The error tree. Every error a user can meet is one of these: one clear line, and a hint that says what to do.

``code`` is the stable word printed by ``--json``; ``exit_code`` is what the command line returns:
1 the run failed, 2 the request was wrong (usage, configuration, input), 130 interrupted.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CommunicationError",
    "CorruptMessage",
    "DataError",
    "DeadlineExpired",
    "Interrupted",
    "JobError",
    "KeyNotFound",
    "LambdaMLError",
    "LaunchFailed",
    "MismatchedMessage",
    "ModelError",
    "NotChecked",
    "NotSupported",
    "OptionError",
    "OutputExists",
    "PluginBroken",
    "PluginConflict",
    "PluginDisabled",
    "PluginError",
    "PluginIncompatible",
    "PluginNotInstalled",
    "ResultLost",
    "RunCancelled",
    "RunError",
    "RunNotFound",
    "StorageDenied",
    "StorageError",
    "StorageFull",
    "StorageUnavailable",
    "URLError",
    "UnknownPlugin",
    "UsageError",
    "ValueTooLarge",
    "WorkerFailed",
]


class LambdaMLError(Exception):
    """Root of all errors raised by LambdaML.

    Args:
        message: one line that says what is wrong and where.
        hint: one line that says what to do about it, if anything can be done.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_json(self) -> dict[str, dict[str, str | None]]:
        """The object printed by ``--json``: ``{"error": {"code", "message", "hint"}}``."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}


class Interrupted(LambdaMLError):
    """Left off by Ctrl-C."""

    code = "interrupted"
    exit_code = 130


# --- the request was wrong: nothing has been started, nothing is half-written ------------------------------


class UsageError(LambdaMLError):
    """A request that cannot be carried out as it was made."""

    code = "usage"
    exit_code = 2


class JobError(UsageError):
    """A job specification that is wrong; the message names the dotted path of the key."""

    code = "job"


class OptionError(UsageError):
    """An option of a plugin that is unknown, of the wrong type or out of range."""

    code = "option"


class URLError(UsageError):
    """A storage URL that cannot be parsed, or one whose ``{env:NAME}`` is not set."""

    code = "url"


class DataError(UsageError):
    """Training data that is malformed; the message names the file and the line where there is one."""

    code = "data"


class ModelError(UsageError):
    """A saved model that cannot be used: missing, damaged, or of another format."""

    code = "model"


class OutputExists(UsageError):
    """The place to write to holds something already."""

    code = "output_exists"


class NotChecked(UsageError):
    """Whether a plugin keeps its laws could not be found out: they could not be tried."""

    code = "not_checked"


class NotSupported(UsageError):
    """A combination that cannot work: something needs a capability that the other side does not state."""

    code = "not_supported"


class RunNotFound(UsageError):
    """No run of that name in the store."""

    code = "run_not_found"


# --- plugins: one error per way a lookup fails --------------------------------------------------------------


class PluginError(UsageError):
    """A plugin cannot be used."""

    code = "plugin"


class UnknownPlugin(PluginError):
    """No installed plugin has this name, and none is known by it."""

    code = "plugin_unknown"


class PluginNotInstalled(PluginError):
    """The name belongs to a known plugin that is not installed here."""

    code = "plugin_not_installed"


class PluginBroken(PluginError):
    """The plugin is installed, and importing it or asking it for its records fails."""

    code = "plugin_broken"


class PluginDisabled(PluginError):
    """The plugin is installed and switched off by ``LAMBDAML_DISABLE_PLUGINS``."""

    code = "plugin_disabled"


class PluginIncompatible(PluginError):
    """The plugin was written for another version of the plugin API."""

    code = "plugin_incompatible"


class PluginConflict(PluginError):
    """Two installed plugins claim the same name."""

    code = "plugin_conflict"


# --- storage: all that a storage may raise ------------------------------------------------------------------


class StorageError(LambdaMLError):
    """A storage operation failed. Implementations raise this or a subclass, never an error of their SDK."""

    code = "storage"


class KeyNotFound(StorageError):
    """There is no value under this key."""

    code = "key_not_found"


class ValueTooLarge(StorageError):
    """The value is larger than the storage takes (``StorageCaps.max_value_bytes``)."""

    code = "value_too_large"


class StorageFull(StorageError):
    """No room left: a full disk, tmpfs or cache."""

    code = "storage_full"
    exit_code = 2


class StorageDenied(StorageError):
    """The credentials given do not allow this, or the file permissions do not."""

    code = "storage_denied"
    exit_code = 2


class StorageUnavailable(StorageError):
    """A transient failure: the same call may succeed when it is made again."""

    code = "storage_unavailable"


# --- communication ------------------------------------------------------------------------------------------


class CommunicationError(LambdaMLError):
    """A collective failed."""

    code = "communication"


class CorruptMessage(CommunicationError):
    """Bytes read from the channel are not the message that was written."""

    code = "corrupt_message"


class MismatchedMessage(CommunicationError):
    """Two ranks are not in the same call: other operation, names, dtypes, shapes or split."""

    code = "mismatched_message"


class DeadlineExpired(CommunicationError):
    """A wait passed its deadline; the message names operation, sequence number and the missing ranks."""

    code = "deadline_expired"


class ResultLost(CommunicationError):
    """A value that must exist is gone: the channel evicted it, or a newer attempt has moved past this one."""

    code = "result_lost"


# --- runs ---------------------------------------------------------------------------------------------------


class RunError(LambdaMLError):
    """A run ended without a model."""

    code = "run"


class WorkerFailed(RunError):
    """A worker ended with an error; the message names its rank and what it said."""

    code = "worker_failed"


class LaunchFailed(RunError):
    """A worker could not be started."""

    code = "launch_failed"


class LimitPassed(RunError):
    """The run was ended, since it has passed a limit of its job; it can be resumed."""

    code = "limit_passed"


class RunCancelled(RunError):
    """The run was cancelled by its user."""

    code = "cancelled"
    exit_code = 130
