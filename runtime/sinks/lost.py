"""What a sink says of a place that takes nothing now."""

import errno

from runtime.sinks import SinkLostError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cannot_write(place: object, error: OSError) -> SinkLostError:
    """The error to raise for one of the system's about a file or folder."""
    reason = (error.strerror or str(error)).lower()
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason = "a file is where a folder should be"
    advice = "make room there" if error.errno in _NO_ROOM else "mend that"
    return SinkLostError(f"cannot write {place}: {reason}; {advice}, or choose another place")
