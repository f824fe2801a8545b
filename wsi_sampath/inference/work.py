"""The folder in which a result grows, beside the place where it will stand."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.identity import check_same
from wsi_sampath.inference.ledger import Ledger, Strip


@dataclass(frozen=True)
class WorkFolder:
    """``NAME.zarr.partial``: the growing zarr and the ledger; no viewer takes it for a result."""

    path: Path

    @property
    def maps(self) -> Path:
        """Return the growing zarr."""
        return self.path / "maps.zarr"

    @property
    def ledger(self) -> Ledger:
        """Return the ledger of finished strips."""
        return Ledger(self.path / "ledger")

    def begin(self, identity: dict[str, Any], *, force: bool) -> Strip | None:
        """Prepare the folder, and find how far an earlier run of the same identity came.

        Returns
        -------
        Strip or None
            The last finished strip; None where the run starts from the beginning.

        Raises
        ------
        WsiError
            ``bad-input`` where an earlier run differs (unless `force`, or unless the slide's file
            was written anew since), or the folder is not ours.
        """
        before = self.ledger.identity()
        if before is not None and not force and not _is_of_an_earlier_copy(before, identity):
            check_same(before, identity, subject=str(self.path))
            last = self.ledger.last()
            if last is not None and self.maps.is_dir():
                return last
        self._clear(ours=before is not None)
        self.ledger.start(identity)
        return None

    def publish(self, target: Path) -> None:
        """Put the finished zarr in its place, then remove this folder."""
        if target.exists():
            old = self.path / "replaced"
            target.rename(old)
        self.maps.rename(target)
        shutil.rmtree(self.path)

    def tidy(self) -> None:
        """Remove what a kill left after the result was published; what is not ours stays."""
        if self.path.exists() and self._looks_ours():
            shutil.rmtree(self.path)

    def _clear(self, *, ours: bool) -> None:
        if not self.path.exists():
            return
        if not (ours or self._looks_ours()):
            raise WsiError(
                "bad-input",
                "the folder in which the result would grow exists and is not ours; remove it",
                subject=str(self.path),
            )
        shutil.rmtree(self.path)

    def _looks_ours(self) -> bool:
        """Tell a folder that a kill left before, or after, its ledger said whose it is."""
        names = {path.name for path in self.path.iterdir()}
        inside = (self.path / "ledger").glob("*")
        return names <= {"ledger", "maps.zarr", "replaced"} and all(map(Ledger.is_own, inside))


def _is_of_an_earlier_copy(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Tell whether the file of this name was another one, as one half copied is."""
    old, new = before.get("slide"), now["slide"]
    if not isinstance(old, dict):
        return False
    return bool(old.get("name") == new["name"] and old.get("fingerprint") != new["fingerprint"])
