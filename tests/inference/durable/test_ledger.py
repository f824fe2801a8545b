"""A ledger after any course of strips, kills, power losses and starts: never a wrong strip."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wsi_sampath.files import GROWING
from wsi_sampath.inference.durable.ledger import Ledger, Strip, pack

ARRAYS = st.dictionaries(
    st.sampled_from(["labels", "carry.0", "tracer.é"]),
    hnp.arrays(
        st.sampled_from(["u1", "<i8", "<f4", "?"]), hnp.array_shapes(min_dims=0, min_side=0)
    ),
    max_size=2,
)
NOTES = st.fixed_dictionaries({"tiles": st.integers(0, 9), "geojson": st.none() | st.text()})


@dataclass(frozen=True)
class Saved:
    """What a strip was when it was saved; `needed` are the rows that it goes on from, if it may."""

    strip: Strip
    needed: range | None


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "work" / "ledger"
        self.ledger = Ledger(self.path)
        self.saved: dict[int, Saved] = {}
        self.torn: set[int] = set()
        self.next_row = 0
        self.identity: dict[str, int] = {}

    def teardown(self) -> None:
        self.folder.cleanup()

    def file(self, row: int) -> Path:
        return self.path / f"{row:08d}.strip"

    @initialize(number=st.integers())
    def begin(self, number: int) -> None:
        self.start(number)

    @rule(number=st.integers())
    def start(self, number: int) -> None:
        self.identity = {"run": number}
        self.ledger.start(self.identity)
        self.saved, self.torn, self.next_row = {}, set(), 0

    @rule(notes=NOTES, arrays=ARRAYS, back=st.integers(-1, 3))
    def save(self, notes, arrays, back: int) -> None:
        """Save the next strip; `back` rows of it and before it are not in whole chunks yet."""
        row = self.next_row
        oldest = min(self.saved, default=row)
        needed_from = min(row, max(oldest, row - back))
        keep_from = row - back if back < 0 else needed_from
        self.ledger.write(pack(Strip(row, notes, arrays), keep_from=keep_from))
        self.saved[row] = Saved(Strip(row, notes, arrays), range(needed_from, row))
        self.saved = {row: kept for row, kept in self.saved.items() if row >= needed_from}
        self.torn &= set(self.saved)
        self.next_row += 1

    @rule(notes=NOTES, arrays=ARRAYS)
    def save_rows_alone(self, notes, arrays) -> None:
        strip = Strip(self.next_row, notes, arrays)
        self.ledger.write(pack(strip, keep_from=None))
        self.saved[strip.row] = Saved(strip, None)
        self.next_row += 1

    @precondition(lambda self: set(self.saved) - self.torn)
    @rule(data=st.data())
    def lose_power(self, data) -> None:
        """A file keeps its name and loses its end, or is blank, or has a wrong byte somewhere."""
        row = data.draw(st.sampled_from(sorted(set(self.saved) - self.torn)))
        whole = self.file(row).read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        torn = {
            "cut": whole[:at],
            "blank": bytes(len(whole)),
            "odd": whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :],
            "longer": whole + b"\0",
        }
        self.file(row).write_bytes(torn[data.draw(st.sampled_from(sorted(torn)))])
        self.torn.add(row)

    @rule(data=st.binary(max_size=20))
    def killed_while_saving(self, data: bytes) -> None:
        """A strip that had not got its name yet is not there."""
        self.file(self.next_row).with_name(self.file(self.next_row).name + GROWING).write_bytes(
            data
        )

    @rule()
    def reopen(self) -> None:
        self.ledger = Ledger(self.path)

    @rule()
    def go_on(self) -> None:
        last = next(self.ledger.candidates(), None)
        if last is None:
            self.start(0)
            return
        later = [row for row in self.saved if row > last.row]
        assert self.ledger.is_newest(last) == all(map(self.holds_rows_alone, later))
        self.ledger.forget_after(last.row)
        self.saved = {row: kept for row, kept in self.saved.items() if row <= last.row}
        self.torn &= set(self.saved)
        self.next_row = last.row + 1
        assert self.ledger.is_newest(last)

    def is_whole(self, row: int) -> bool:
        return row in self.saved and row not in self.torn

    def holds_rows_alone(self, row: int) -> bool:
        return self.is_whole(row) and self.saved[row].needed is None

    @invariant()
    def goes_on_after_the_strips_that_are_whole_with_all_they_need(self) -> None:
        found = list(self.ledger.candidates())
        assert [strip.row for strip in found] == [
            row
            for row in sorted(self.saved, reverse=True)
            if self.is_whole(row)
            and self.saved[row].needed is not None
            and all(map(self.is_whole, self.saved[row].needed))
        ]
        for strip in found:
            same(strip, self.saved[strip.row].strip)
            needed = list(self.ledger.needed_by(strip))
            assert [kept.row for kept in needed] == [*self.saved[strip.row].needed, strip.row]
            for kept in needed:
                same(kept, self.saved[kept.row].strip)

    @invariant()
    def keeps_what_is_needed_and_nothing_else(self) -> None:
        assert {path.name for path in self.path.glob("*.strip")} == {
            self.file(row).name for row in self.saved
        }
        assert self.ledger.is_empty() == all(map(self.holds_rows_alone, self.saved))
        assert all(map(Ledger.is_own, self.path.iterdir()))
        if self.identity:
            assert self.ledger.identity() == self.identity


def same(strip: Strip, saved: Strip) -> None:
    assert {key: strip.notes[key] for key in saved.notes} == saved.notes
    assert list(strip.arrays) == list(saved.arrays)
    for name, array in saved.arrays.items():
        assert strip.arrays[name].dtype == array.dtype
        assert strip.arrays[name].shape == array.shape
        assert strip.arrays[name].tobytes() == array.tobytes()


LedgerMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
TestLedger = LedgerMachine.TestCase


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff", b"[" * 100_000])
def test_a_torn_identity_is_none(tmp_path, content):
    ledger = Ledger(tmp_path / "ledger")
    assert ledger.identity() is None
    ledger.start({"run": 1})
    assert ledger.identity() == {"run": 1}
    (tmp_path / "ledger" / "identity.json").write_bytes(content)
    assert ledger.identity() is None


def test_names_that_ledgers_do_not_write(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.start({})
    for name in ("x.strip", "-1.strip", "notes.txt"):
        (tmp_path / name).write_text(json.dumps(name))
    assert ledger.is_empty()
    assert list(ledger.candidates()) == []
    assert not Ledger.is_own(tmp_path / "notes.txt")


def test_views_are_saved_as_what_they_show(tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    ledger.start({})
    plane = np.arange(24).reshape(4, 6)
    ledger.write(pack(Strip(0, {}, {"turned": plane.T[::2]}), keep_from=0))
    (strip,) = ledger.candidates()
    assert np.array_equal(strip.arrays["turned"], plane.T[::2])


def test_a_packed_strip_is_no_view_of_what_it_was_made_of(tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    ledger.start({})
    arrays = {"even": np.ones(100_000, np.float32), "noise": np.random.default_rng(0).random(9999)}
    before = {name: array.copy() for name, array in arrays.items()}
    packed = pack(Strip(0, {}, arrays), keep_from=0)
    for array in arrays.values():
        array += 1
    ledger.write(packed)
    same(next(ledger.candidates()), Strip(0, {}, before))


def test_what_does_not_shrink_is_kept_as_it_is(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, 1 << 16, np.uint8)
    sizes = {
        name: sum(map(len, pack(Strip(0, {}, {"a": array}), keep_from=0).parts))
        for name, array in {"noise": noise, "even": np.full_like(noise, 7)}.items()
    }
    assert len(noise) <= sizes["noise"] < len(noise) + 200
    assert sizes["even"] < len(noise) / 20
