"""Errors of the machine (memory, disk, interrupts) turned into the reasons that a user knows."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_sampath.errors import WsiError
from wsi_sampath.files import GROWING


@contextmanager
def explained(
    subject: str,
    *,
    smaller: str = "use a smaller --batch-size or fewer --workers",
    again: str = "run the command again to resume",
) -> Iterator[None]:
    """Raise any error of the block as a `WsiError` about `subject`.

    Parameters
    ----------
    subject
        The slide or file concerned.
    smaller
        What to do where memory runs out.
    again
        What to do after an interruption.
    """
    try:
        yield
    except WsiError as error:
        raise error.about(subject) from None
    except KeyboardInterrupt:
        message = f"stopped by the user; {again}"
        raise WsiError("interrupted", message, subject=subject) from None
    except MemoryError:
        raise WsiError(
            "out-of-memory",
            f"the machine ran out of memory; {smaller}",
            subject=subject,
        ) from None
    except OSError as error:
        raise _os_error(error, subject) from None


def _os_error(error: OSError, subject: str) -> WsiError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = "no space is left where the output goes; free some, then run the command again"
        return WsiError("disk-full", message, subject=subject)
    message = f"the output cannot be written: {error.strerror or error}{_where(error)}"
    return WsiError("bad-input", message, subject=subject)


def _where(error: OSError) -> str:
    if not error.filename:
        return ""
    path = Path(str(error.filename))
    # The name of a file while it is incomplete means nothing to a user.
    return f" ({path.parent if path.name.endswith(GROWING) else path})"
