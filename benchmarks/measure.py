"""What a command costs: time and memory of it and of all it starts, within limits.

Linux alone: the process tree is read from /proc.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")
PERIOD_S = 0.1


@dataclass(frozen=True)
class Limits:
    """What one run may take before it is stopped.

    Parameters
    ----------
    seconds
        By the clock.
    megabytes
        Resident, over the whole process tree; 1 MB is 10^6 bytes.
    """

    seconds: float
    megabytes: float


def process_tree(pid: int) -> list[int]:
    """List a process and its descendants."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                waiting += map(int, children.read_text().split())
            except OSError:
                continue
    return found


def resident(pid: int) -> int:
    """Return the resident bytes of a process, 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def measure(command: list[str], limits: Limits) -> dict[str, Any]:
    """Run a command by itself.

    Returns
    -------
    dict
        ``seconds``, ``cpu_seconds``, ``peak_mb`` (10 samples a second; pages that processes share
        are counted in each), ``load_before`` (of one minute), ``fate``
        (``finished``, ``failed`` or ``stopped``) and, unless it finished, ``error``.
    """
    load, before, start = os.getloadavg()[0], os.times(), time.perf_counter()
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            env=as_installed(),
        )
        try:
            peak, stopped = _watch(process, limits)
        except BaseException:
            _stop(process)
            raise
        seconds, after = time.perf_counter() - start, os.times()
        errors.seek(0)
        error = stopped or (errors.read().strip()[-300:] if process.returncode else "")
    row = {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(sum(after[2:4]) - sum(before[2:4]), 2),
        "peak_mb": round(peak),
        "load_before": round(load, 2),
        "fate": "stopped" if stopped else "failed" if process.returncode else "finished",
    }
    return row | ({"error": error} if row["fate"] != "finished" else {})


def _watch(process: subprocess.Popen[bytes], limits: Limits) -> tuple[float, str]:
    """Wait for the end; return the peak in MB, and why it was stopped if it was."""
    over, peak, stopped = threading.Event(), 0.0, ""

    def wait() -> None:
        process.wait()
        over.set()

    # A thread that waits, so that the end is seen when it comes and not at the next sample.
    waiter = threading.Thread(target=wait, daemon=True)
    start = time.perf_counter()
    waiter.start()
    while not over.wait(PERIOD_S):
        peak = max(peak, sum(map(resident, process_tree(process.pid))) / 1e6)
        if peak > limits.megabytes:
            stopped = f"stopped at {peak / 1e3:.1f} GB"
        elif time.perf_counter() - start > limits.seconds:
            stopped = f"stopped after {limits.seconds:.0f} s"
        if stopped:
            _stop(process)
            break
    waiter.join()
    return peak, stopped


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kill a command with all it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def as_installed() -> dict[str, str]:
    """Return the environment in which Python keeps compiled modules, as pip's installs do."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def hardware() -> dict[str, Any]:
    """Name the day and the machine: processor, cores this process may use, memory, system."""
    processors = _fields("/proc/cpuinfo")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": processors.get("model name", platform.machine()),
        "cpu_family_model_stepping": "/".join(
            processors.get(name, "?") for name in ("cpu family", "model", "stepping")
        ),
        "cpu_mhz": processors.get("cpu MHz"),
        "cache": processors.get("cache size"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(_fields("/proc/meminfo")["MemTotal"].split()[0]) * 1024 / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _fields(path: str) -> dict[str, str]:
    """Read lines of ``name : value``; of names that come again the first."""
    found: dict[str, str] = {}
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    return found
