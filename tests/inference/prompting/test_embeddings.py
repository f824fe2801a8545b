"""What was seen comes back as it was, within bounds."""

from __future__ import annotations

import os

import pytest
import torch

from wsi_sampath.files import GROWING
from wsi_sampath.inference.prompting.embeddings import (
    SUFFIX,
    EmbeddingCache,
    Seen,
    key_of,
)

CPU = torch.device("cpu")
SEEN = Seen(slide="slide", model="model", precision="fp32 cpu")


def embedding(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(1, 8, 4, 4, generator=generator).to(dtype)
    return first, torch.randn(1, 4, 4, 6, generator=generator).permute(0, 3, 1, 2)


def key(number):
    return key_of(SEEN, factor=1, y=0, x=number)


def never():
    raise AssertionError("made again")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_files_give_back_every_bit(tmp_path, dtype):
    made = embedding(1, dtype)
    first = EmbeddingCache(folder=tmp_path).get(key(1), CPU, lambda: made)
    again = EmbeddingCache(folder=tmp_path)
    assert again.holds(key(1))
    found = again.get(key(1), CPU, never)
    assert [part.dtype for part in found] == [part.dtype for part in made]
    assert all(map(torch.equal, found, made))
    # What is laid out otherwise would be computed with otherwise, to other last digits.
    assert [part.stride() for part in found] == [part.stride() for part in first]


def test_memory_holds_what_was_used_last():
    size = sum(part.nelement() * 4 for part in embedding(0))
    cache = EmbeddingCache(memory_bytes=2 * size)
    for number in (0, 1, 0, 2):
        cache.get(key(number), CPU, lambda number=number: embedding(number))
    assert [cache.holds(key(number)) for number in range(3)] == [True, False, True]
    assert cache.memory_bytes == 2 * size
    assert cache.made == 3


def test_one_is_held_whatever_the_limit():
    cache = EmbeddingCache(memory_bytes=0)
    cache.get(key(0), CPU, lambda: embedding(0))
    cache.get(key(0), CPU, never)
    cache.get(key(1), CPU, lambda: embedding(1))
    assert not cache.holds(key(0))


def test_a_full_folder_loses_what_was_used_longest_ago(tmp_path):
    cache = EmbeddingCache(memory_bytes=0, folder=tmp_path, disk_bytes=4000)
    for number in range(6):
        cache.get(key(number), CPU, lambda number=number: embedding(number))
        for place, path in enumerate(sorted(tmp_path.iterdir(), key=os.path.getmtime)):
            os.utime(path, (place, place))
    left = list(tmp_path.glob(f"*{SUFFIX}"))
    assert sum(path.stat().st_size for path in left) <= 4000 + 1200
    assert cache.holds(key(5))
    assert not cache.holds(key(0))


@pytest.mark.parametrize("damage", [b"", b"\x10\0\0\0\0\0\0\0{", "cut", "other"])
def test_a_torn_file_is_made_again(tmp_path, damage):
    made = embedding(3)
    EmbeddingCache(folder=tmp_path).get(key(3), CPU, lambda: made)
    (path,) = tmp_path.iterdir()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    elif damage == "other":
        path.rename(path.with_name(f"{key(4)}{SUFFIX}"))
    else:
        path.write_bytes(damage)
    wanted = key(4) if damage == "other" else key(3)
    again = EmbeddingCache(folder=tmp_path)
    again.get(wanted, CPU, lambda: made)
    assert again.made == 1
    fresh = EmbeddingCache(folder=tmp_path).get(wanted, CPU, never)
    assert torch.equal(fresh[0], made[0])


def test_a_folder_that_cannot_be_written_is_let_be(tmp_path):
    (tmp_path / "file").write_text("")
    cache = EmbeddingCache(folder=tmp_path / "file" / "cache")
    made = embedding(1)
    held = cache.get(key(1), CPU, lambda: made)
    assert all(map(torch.equal, held, made))
    assert isinstance(cache.trouble, OSError)
    assert cache.get(key(1), CPU, never) is held


def test_what_a_kill_left_half_written_is_swept_away(tmp_path):
    old, new = (tmp_path / f".host.1.{name}{GROWING}" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    EmbeddingCache(folder=tmp_path).get(key(1), CPU, lambda: embedding(1))
    assert (old.exists(), new.exists()) == (False, True)


def test_every_part_of_a_key_counts():
    keys = {
        key_of(Seen(*seen), factor=factor, y=y, x=x)
        for seen in (("a", "b", "c"), ("a", "b", "d"), ("a", "c", "c"), ("b", "b", "c"))
        for factor, y, x in ((1, 0, 0), (2, 0, 0), (1, 4, 0), (1, 0, 4))
    }
    assert len(keys) == 16
