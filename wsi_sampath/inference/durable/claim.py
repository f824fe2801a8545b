"""Keep two runs off one output: a claim file, created exclusively and refreshed while held."""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from wsi_sampath.errors import WsiError

HEARTBEAT_S = 15.0
STALE_S = 120.0
# A claim is written within moments: one without an owner was left by a full disk or a kill.
_UNSIGNED_S = 10.0
_AHEAD_S = 5.0


class Claim:
    """Hold an output for the length of a ``with`` block.

    The file says who holds it. It counts as abandoned when its owner is a dead process of this
    host, or when it was not refreshed for `STALE_S` seconds (an owner on another machine). A claim
    from the future (clocks differ) gets the present time, so that its age counts from then on.

    Parameters
    ----------
    path
        The claim file, beside the output; exclusive creation is atomic on shared file systems too.
    option
        The option that chooses another output, for the message.

    Raises
    ------
    WsiError
        ``busy`` where another run holds the output.
    """

    def __init__(self, path: Path, *, option: str = "--out") -> None:
        self.path = path
        self._option = option
        self._token = uuid.uuid4().hex
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._refresh, daemon=True, name="claim")

    def __enter__(self) -> Claim:
        if not self._create():
            self._break_if_stale()
            if not self._create():
                raise self._busy()
        self._beat.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._beat.join()
        if self._is_mine():
            self.path.unlink(missing_ok=True)

    def is_held(self) -> bool:
        """Return whether a living run holds the output, without claiming it."""
        return self.path.exists() and not self._abandoned()

    def refuse_held(self) -> None:
        """Make sure that no living run holds the output, without claiming it.

        Raises
        ------
        WsiError
            ``busy`` where one does.
        """
        if self.is_held():
            raise self._busy()

    def check(self) -> None:
        """Make sure that the output is still ours.

        Raises
        ------
        WsiError
            ``busy`` where another run took over, since this one did not stir for too long.
        """
        if not self._is_mine():
            raise self._busy()

    def _create(self) -> bool:
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump({**_this_process(), "token": self._token}, stream)
        except BaseException:
            # A full disk leaves no claim without an owner.
            self.path.unlink(missing_ok=True)
            raise
        return True

    def _break_if_stale(self) -> None:
        stale = self._owner()
        if not self._abandoned():
            return
        # Renaming first lets exactly one of several waiting runs clear the old claim.
        grave = self.path.with_name(f"{self.path.name}.{os.getpid()}.stale")
        try:
            self.path.rename(grave)
        except FileNotFoundError:
            return
        if _read_owner(grave) != stale:
            # Another run had cleared it already, and this is the claim that it made since.
            with suppress(OSError):
                os.link(grave, self.path)
        grave.unlink(missing_ok=True)

    def _abandoned(self) -> bool:
        try:
            age = time.time() - self.path.stat().st_mtime
        except FileNotFoundError:
            return True
        owner = self._owner()
        if age < -_AHEAD_S:
            with suppress(OSError):
                os.utime(self.path)
        limit = STALE_S if owner else _UNSIGNED_S
        return _died(owner) or (age >= limit and self._age_there() >= limit)

    def _age_there(self) -> float:
        """Return the claim's age by the clock of its file system, which may differ from ours."""
        clock = self.path.with_name(f"{self.path.name}.{os.getpid()}.stale")
        try:
            clock.touch()
            return clock.stat().st_mtime - self.path.stat().st_mtime
        except FileNotFoundError:
            return math.inf
        except OSError:
            return time.time() - self.path.stat().st_mtime
        finally:
            with suppress(OSError):
                clock.unlink()

    def _owner(self) -> dict[str, Any]:
        return _read_owner(self.path)

    def _is_mine(self) -> bool:
        return self._owner().get("token") == self._token

    def _busy(self) -> WsiError:
        owner = self._owner()
        who = f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"
        return WsiError(
            "busy",
            f"another run ({who}) is writing {self.path.name.removesuffix('.claim')}; wait for it, "
            f"or choose another {self._option}",
        )

    def _refresh(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            # A hiccup of a network disk: the next beat comes long before the claim is stale.
            with suppress(OSError):
                if self._is_mine():
                    os.utime(self.path)


def _read_owner(path: Path) -> dict[str, Any]:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": time.time(),
        "born": _born(os.getpid()),
        "space": _pid_space(),
    }


def _died(owner: dict[str, Any]) -> bool:
    """Return whether the owner was a process of this host that has ended."""
    pid = _pid(owner)
    if owner.get("host") != socket.gethostname() or pid is None:
        return False
    if owner.get("space", _pid_space()) != _pid_space():
        return False  # A container of the same name, whose processes cannot be seen from here.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    born = owner.get("born")
    return _is_zombie(pid) or (born is not None and born != _born(pid))


def _pid(owner: dict[str, Any]) -> int | None:
    pid = owner.get("pid")
    return pid if type(pid) is int and 0 < pid < 1 << 31 else None


def _pid_space() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _stat(pid: int) -> list[str]:
    """Return what /proc says of a process after its name; empty where there is no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return stat.rpartition(")")[2].split()


def _born(pid: int) -> str | None:
    """Return when a process started, in ticks since boot, which exposes a reused process id."""
    stat = _stat(pid)
    return stat[19] if len(stat) > 19 else None


def _is_zombie(pid: int) -> bool:
    """Return whether a process is a zombie, as remain in containers without an init."""
    return _stat(pid)[:1] == ["Z"]
