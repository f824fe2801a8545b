"""Keep two runs off one output: a claim file, created exclusively and refreshed while held."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType

from wsi_sampath.errors import WsiError

HEARTBEAT_S = 15.0
STALE_S = 120.0


class Claim:
    """Hold an output for the length of a ``with`` block.

    The file tells who holds it. It counts as abandoned when its owner is a dead process of this
    host, or when it was not refreshed for `STALE_S` seconds (an owner on another machine).

    Parameters
    ----------
    path
        The claim file, beside the output; exclusive creation is atomic on shared file systems too.

    Raises
    ------
    WsiError
        ``busy`` where another run holds the output.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._refresh, daemon=True, name="claim")

    def __enter__(self) -> Claim:
        if not self._create():
            self._break_if_stale()
            if not self._create():
                raise self._busy()
        self._beat.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._beat.join()
        self.path.unlink(missing_ok=True)

    def is_held(self) -> bool:
        """Tell whether a living run holds the output, without claiming it."""
        return self.path.exists() and not self._abandoned()

    def _create(self) -> bool:
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(owner, stream)
        return True

    def _break_if_stale(self) -> None:
        if not self._abandoned():
            return
        # Renaming first lets exactly one of several waiting runs clear the old claim.
        grave = self.path.with_name(f"{self.path.name}.{os.getpid()}.stale")
        try:
            self.path.rename(grave)
        except FileNotFoundError:
            return
        grave.unlink(missing_ok=True)

    def _abandoned(self) -> bool:
        try:
            age = time.time() - self.path.stat().st_mtime
        except FileNotFoundError:
            return True
        return age >= STALE_S or self._owner_died()

    def _owner(self) -> dict[str, object]:
        try:
            owner = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return owner if isinstance(owner, dict) else {}

    def _owner_died(self) -> bool:
        owner = self._owner()
        pid = owner.get("pid")
        if owner.get("host") != socket.gethostname() or not isinstance(pid, int):
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return _is_zombie(pid)

    def _busy(self) -> WsiError:
        owner = self._owner()
        who = f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"
        return WsiError(
            "busy",
            f"another run ({who}) is writing this output; wait for it, or choose another --out",
        )

    def _refresh(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            try:
                os.utime(self.path)
            except OSError:
                # A hiccup of a network disk: the next beat comes long before the claim is stale.
                continue


def _is_zombie(pid: int) -> bool:
    """Tell a dead process that nobody has buried yet, as in containers without an init."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[:1] == ["Z"]
