"""Atomic files: the one place where something is written under another name, then renamed."""

from __future__ import annotations

import os
import socket
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_sampath.errors import Reason, WsiError

GROWING = ".growing"


def require_file(path: Path, reason: Reason) -> None:
    """Refuse what is not a regular file, or cannot be accessed.

    Raises
    ------
    WsiError
        With `reason`.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        message = "there is no such file"
    except (OSError, ValueError) as error:
        message = f"cannot be read: {getattr(error, 'strerror', None) or error}"
    else:
        if stat.S_ISREG(mode):
            return
        message = "is not a file"
    raise WsiError(reason, message, subject=str(path))


@contextmanager
def replacing(path: Path, *, durable: bool = False, shared: bool = False) -> Iterator[Path]:
    """Write a file beside `path`, and put it in its place once it is complete.

    Parameters
    ----------
    path
        The file that is to appear, or to be replaced.
    durable
        Whether the content must survive a power loss right after the block: file and folder entry
        are then flushed to the disk.
    shared
        Whether other processes may write the same file at this moment: each then writes beside it
        under a hidden name of its own, and the last one to finish stays.

    Yields
    ------
    Path
        Where to write. It is renamed to `path` at the end of the block, and removed instead where
        the block raises.

    Raises
    ------
    OSError
        Where the file cannot be written or renamed; `path` is then as it was.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> target = Path(mkdtemp()) / "scores.json"
    >>> with replacing(target) as growing:
    ...     _ = growing.write_text("{}")
    >>> target.read_text()
    '{}'
    """
    growing = path.with_name(_own_name() if shared else path.name + GROWING)
    try:
        yield growing
        if durable:
            _flush(growing)
        growing.replace(path)
    except BaseException:
        growing.unlink(missing_ok=True)
        raise
    if durable:
        _flush(path.parent)


def _own_name() -> str:
    # Short and independent of the file's name, which may be as long as names can be.
    return f".{socket.gethostname()[:40]}.{os.getpid()}.{uuid.uuid4().hex[:8]}{GROWING}"


def _flush(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders, and flushes their entries with the file.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
