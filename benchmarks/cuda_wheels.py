"""Wheels for a machine that has torch and no network: fetched here, installed beside it there.

What is fetched stands in ``cuda_wheels.txt``. Nothing goes into the machine's own Python: the
wheels are unpacked into a folder that stands before it on the path, and its torch stays.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

LIST = Path(__file__).with_name("cuda_wheels.txt")
MOST_BYTES = 42 * 2**20
# pip takes a wheel only for the very version of the C library that its name says.
_GLIBC = (5, 12, 17, 24, 27, 28, 31, 34, 35)
_PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in _GLIBC] + ["manylinux2014_x86_64"]
_TORCH_AND_KIN = re.compile(r"(torch|torchvision|torchaudio|triton|numpy|nvidia_.*|cuda_.*)-")


def fetch(folder: Path) -> int:
    """Fill `folder` with the listed wheels and nothing else; return their bytes.

    Raises
    ------
    SystemExit
        Where pip fails, or the wheels are too large or would replace the machine's torch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as fresh:
        words = ["download", "--no-deps", "--only-binary=:all:", "--python-version", "3.12"]
        words += ["--implementation", "cp", *(f"--platform={one}" for one in _PLATFORMS)]
        _pip(*words, "--dest", fresh, "--requirement", str(LIST))
        wheels = sorted(Path(fresh).glob("*.whl"))
        total = checked(wheels)
        for old in folder.glob("*.whl"):
            old.unlink()
        for wheel in wheels:
            wheel.rename(folder / wheel.name)
    return total


def checked(wheels: list[Path]) -> int:
    """Return the bytes of some wheels.

    Raises
    ------
    SystemExit
        Where they are too many bytes, or would replace torch or what it stands on.
    """
    kin = [wheel.name for wheel in wheels if _TORCH_AND_KIN.match(wheel.name)]
    if kin:
        sys.exit(f"error: {kin[0]} would replace what the machine's torch stands on")
    total = sum(wheel.stat().st_size for wheel in wheels)
    if total > MOST_BYTES:
        sys.exit(f"error: the wheels have {total / 2**20:.1f} MiB, more than {MOST_BYTES >> 20}")
    return total


def install_command(folder: Path, site: Path) -> list[str]:
    """Return the command that unpacks all wheels of `folder` into `site`, without a network."""
    wheels = sorted(folder.glob("*.whl"))
    checked(wheels)
    words = ["install", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir"]
    return [*_PIP, *words, "--target", str(site), *map(str, wheels)]


_PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


def _pip(*words: str) -> None:
    done = subprocess.run([*_PIP, *words], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: pip {words[0]}: {' '.join(done.stderr.split())[-600:]}")
