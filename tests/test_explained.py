"""What a machine does to a run is told in words that a user knows."""

from __future__ import annotations

import errno
import os

import pytest

from wsi_sampath.errors import WsiError
from wsi_sampath.explained import explained
from wsi_sampath.files import replacing


def test_a_place_that_takes_no_file_is_named_and_not_the_file_that_was_growing(
    tmp_path,
):
    def refuse(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with pytest.raises(WsiError) as caught, explained("a.svs"):  # noqa: SIM117
        with replacing(tmp_path / "slides.csv", shared=True) as growing:
            refuse(growing)
    assert caught.value.line() == (
        f"error: a.svs: bad-input: the output cannot be written: Read-only file system ({tmp_path})"
    )
