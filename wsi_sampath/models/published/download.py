"""Fetch published weights into a cache: resumed where a download broke off, and verified.

A file under its own name in the cache is always complete and has the published digest. What a
broken download left is beside it as ``NAME.download`` and is continued by the next attempt.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pooch
import requests

from wsi_sampath.cache import CACHE_VARIABLE, cache_folder
from wsi_sampath.errors import WsiError
from wsi_sampath.files import replacing
from wsi_sampath.models.published.catalogue import PublishedFile, published_file

Progress = Callable[[int, int | None], None]
"""Called with the bytes at hand and the bytes in all, if these are known."""

_ATTEMPTS = 4
_WAIT_S = 0.5
_VERIFIED = ".verified"
_TIMEOUT_S = (15, 60)
_BLOCK_BYTES = 1 << 20
_OK, _PARTIAL, _NOT_SATISFIABLE = 200, 206, 416


def cached(entry: PublishedFile) -> Path | None:
    """Return the file in the cache, or None if it was not fetched yet; it is not verified."""
    path = cache_folder() / entry.file
    return path if path.is_file() else None


def is_genuine(entry: PublishedFile, path: Path) -> bool:
    """Return whether a file is the published one, by its digest; yes where none is known.

    The check is done once per size and modification time of the file, and recorded beside it.
    """
    if entry.size is not None and path.stat().st_size != entry.size:
        return False
    if not entry.digest:
        return True
    note = path.with_name(f"{path.name}{_VERIFIED}")
    now = _state(entry, path)
    with suppress(OSError, ValueError):
        if json.loads(note.read_text(encoding="utf-8")) == now:
            return True
    algorithm, _, digest = entry.digest.partition(":")
    if pooch.file_hash(str(path), alg=algorithm) != digest:
        return False
    # A cache that cannot be written costs time, nothing else.
    with suppress(OSError), replacing(note) as growing:
        growing.write_text(json.dumps(now), encoding="utf-8")
    return True


def _state(entry: PublishedFile, path: Path) -> dict[str, object]:
    found = path.stat()
    times = [found.st_mtime_ns, found.st_ctime_ns]
    return {"digest": entry.digest, "size": found.st_size, "times": times}


def weights_file(name_or_path: str | Path) -> Path:
    """Return the file meant by a path or by the name of published weights fetched before.

    Raises
    ------
    WsiError
        ``bad-model`` if it is neither, or was not fetched, or is not the published file any more.
    """
    path = Path(name_or_path)
    if path.is_file() or path.suffix:
        return path
    entry = published_file(str(name_or_path))
    found = cached(entry)
    if found is None:
        raise WsiError("bad-model", f"not here yet; run: wsi-models fetch {entry.name}").about(
            entry.name
        )
    if not is_genuine(entry, found):
        message = f"{found} is not the published file; run: wsi-models fetch {entry.name}"
        raise WsiError("bad-model", message, subject=entry.name)
    return found


def fetch(
    entry: PublishedFile, *, source: str | None = None, progress: Progress | None = None
) -> Path:
    """Return a published file, downloading it unless a good copy is in the cache.

    Parameters
    ----------
    entry
        What to fetch.
    source
        A folder, or the address of a mirror, that holds ``entry.file``; None takes the authors'.
    progress
        Called for every block.

    Raises
    ------
    WsiError
        ``unreadable`` if it cannot be fetched or is not the published file; ``disk-full``.
    """
    folder = cache_folder()
    here = cached(entry)
    if entry.by_hand and source is None and here is not None:
        return here
    address = _address(entry, source)
    # pooch announces every download itself; here the caller does.
    pooch.get_logger().setLevel(logging.WARNING)
    get = _Downloader(entry, folder / f"{entry.file}.download", progress or _silent)
    known = entry.digest or None
    try:
        return Path(
            pooch.retrieve(address, known_hash=known, fname=entry.file, path=folder, downloader=get)
        )
    except ValueError as error:
        raise WsiError("unreadable", f"{address} is not the published file: {error}").about(
            entry.name
        ) from None
    except requests.RequestException as error:
        raise _unreachable(entry, address, error) from None
    except OSError as error:
        raise _os_error(entry, address, error) from None


def _address(entry: PublishedFile, source: str | None) -> str:
    if source is None:
        if entry.by_hand:
            message = f"no program can fetch it: save {entry.file} from {entry.url}, and give its"
            raise WsiError("unreadable", f"{message} folder with --from", subject=entry.name)
        return entry.url
    if "://" in source:
        return f"{source.rstrip('/')}/{entry.file}"
    path = Path(source) / entry.file
    if path.is_file():
        return str(path)
    raise WsiError("unreadable", f"there is no {entry.file} in {source}", subject=entry.name)


class _Downloader:
    """What pooch calls to fill its temporary file, whose content it then verifies."""

    def __init__(self, entry: PublishedFile, part: Path, progress: Progress) -> None:
        self.entry, self.part, self.progress = entry, part, progress

    def __call__(self, address: str, output_file: str, _pooch: object) -> None:
        if "://" in address:
            self._download(address)
            os.replace(self.part, output_file)
        else:
            shutil.copyfile(address, output_file)

    def _download(self, address: str) -> None:
        for attempt in range(_ATTEMPTS):
            before = self._have()
            try:
                self._continue(address)
                return
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                if attempt == _ATTEMPTS - 1 or self._have() == before:
                    raise
            time.sleep(_WAIT_S * attempt)

    def _continue(self, address: str) -> None:
        have = self._have()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(address, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
            if answer.status_code == _NOT_SATISFIABLE:
                # There is no more than we have: all of it, or rubbish. The digest will tell.
                return
            answer.raise_for_status()
            goes_on = answer.status_code == _PARTIAL
            length = answer.headers.get("Content-Length")
            start = have if goes_on else 0
            total = start + int(length) if length else self.entry.size
            with self.part.open("ab" if goes_on else "wb") as file:
                for block in answer.iter_content(_BLOCK_BYTES):
                    file.write(block)
                    self.progress(file.tell(), total)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0


def _unreachable(entry: PublishedFile, address: str, error: requests.RequestException) -> WsiError:
    answer = error.response
    if answer is not None:
        said = f"{address} answered {answer.status_code}"
        mend = "give a mirror or a folder with --from"
    elif isinstance(error, requests.exceptions.ChunkedEncodingError):
        said, mend = f"the download from {address} broke off", "run the command again to resume"
    else:
        said = f"{address} cannot be reached"
        mend = f"get {entry.file} elsewhere and give its folder with --from"
    return WsiError("unreadable", f"{said}; {mend}", subject=entry.name)


def _os_error(entry: PublishedFile, address: str, error: OSError) -> WsiError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"no space is left in {cache_folder()}; free some, or set {CACHE_VARIABLE}"
        return WsiError("disk-full", message, subject=entry.name)
    message = f"{address} cannot be fetched into {cache_folder()}: {error.strerror or error}"
    return WsiError("unreadable", message, subject=entry.name)


def _silent(_have: int, _total: int | None) -> None:
    pass
