"""The outcomes a user is told about in one line; anything else is a bug and shows itself."""


class UserError(Exception):
    """Bad input or configuration: what happened, with the value and the path, then what to do."""


class CheckFailedError(Exception):
    """Everything ran, and a check of the result did not hold."""


class NpuError(RuntimeError):
    """The NPU, or the vendor's library, failed at what it has to do; a new process may do it."""
