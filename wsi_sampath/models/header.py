"""The beginning of a safetensors file, looked at before the library reads it."""

from __future__ import annotations

import json
from pathlib import Path

from wsi_sampath.errors import WsiError
from wsi_sampath.files import require_file
from wsi_sampath.models.limits import unique_object

LENGTH_BYTES = 8
"""Of the number that a file begins with, the length of its header."""
_MAX_HEADER_BYTES = 16 << 20
_FIRST_BYTES = {
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself; run: git lfs pull",
    b"<": "is a web page, not a model; download the file itself",
    b"PK\x03\x04": "is a file of torch.save under another name; call it .pt, and see "
    "'wsi-models import'",
    b"\x80": "is a pickle under another name, which is never run",
}
"""What is found under the name of a safetensors file."""


def check_header(path: Path) -> None:
    """Refuse what cannot be a safetensors file by its first bytes, and say what it is instead.

    Raises
    ------
    WsiError
        ``bad-model``, also where the file is missing.
    """
    require_file(path, "bad-model")
    try:
        with path.open("rb") as file:
            start = file.read(64)
            length = int.from_bytes(start[:LENGTH_BYTES], "little")
            header = file.read(length) if length <= _MAX_HEADER_BYTES else b""
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise WsiError("bad-model", message, subject=str(path)) from error
    if not start:
        raise WsiError("bad-model", "is empty", subject=str(path))
    is_header = start[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{"
    for first, said in _FIRST_BYTES.items():
        if start.startswith(first) and not is_header:
            raise WsiError("bad-model", said, subject=str(path))
    if length > _MAX_HEADER_BYTES:
        message = "is damaged or not a safetensors file (its header is absurdly long)"
        raise WsiError("bad-model", message, subject=str(path))
    _check_names(start[LENGTH_BYTES:] + header, length, path)


def _check_names(header: bytes, length: int, path: Path) -> None:
    # The library takes the last of two tensors with one name, without a word.
    try:
        json.loads(header[:length], object_pairs_hook=unique_object)
    except (ValueError, RecursionError) as error:
        raise WsiError(
            "bad-model", f"is damaged or not a safetensors file ({error})", subject=str(path)
        ) from error
