"""The process behind a `ReaderProcess`: one reader, asked for boxes through a pipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, Any

import numpy as np

from wsi_sampath.slides.readers.base import Reader, TileError
from wsi_sampath.slides.readers.open import READERS
from wsi_sampath.slides.readers.shared import receive, send


def serve(name: str, path: Path, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer boxes with pixels, or with an error, until the asking process closes or dies."""
    reader: Reader | None = None
    while True:
        try:
            box = receive(requests)
        except EOFError:
            return
        try:
            reader = reader or READERS[name](path)
            answer: Any = np.ascontiguousarray(reader.read(*box))
        except TileError as error:
            answer = str(error)
        send(answers, answer)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), sys.stdin.buffer, sys.stdout.buffer)
