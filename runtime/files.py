"""Files that appear whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import UserError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside the wanted one, with the same suffix, to write to; it takes the wanted one's
    place when the block ends well and is removed when it does not. Raises UserError where the
    folder cannot be written to, or the disk is full. That is any OSError of the block but those
    about files elsewhere."""
    with _readable_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        partial = Path(name)
        try:
            yield partial
            partial.chmod(0o666 & ~_umask())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Likewise for a folder; one that is already there is replaced."""
    with _readable_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            yield partial
            partial.chmod(0o777 & ~_umask())
            if path.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent))
                path.replace(old / path.name)
                try:
                    partial.replace(path)
                except BaseException:
                    (old / path.name).replace(path)
                    raise
                finally:
                    shutil.rmtree(old, ignore_errors=True)
            else:
                partial.replace(path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        target, about = path.absolute(), Path(str(error.filename or path)).absolute()
        if not (about.is_relative_to(target.parent) or target.is_relative_to(about)):
            raise
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"cannot write {path}: {reason}; make room there, or choose another place"
        ) from error


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
