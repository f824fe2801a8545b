"""Virtual environments of the peers: one each, since they want different versions of one library.

What goes into one stands in ``peers/NAME.txt``, with the versions that are known to work together.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
_FREEZE = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {"python": sys.version.split()[0]}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        found[name] = None
print(json.dumps(found))
"""


def requirements(name: str) -> str:
    """Return what pip installs for a peer."""
    return (HERE / "peers" / f"{name}.txt").read_text(encoding="utf-8")


def make_environment(name: str, folder: Path) -> str:
    """Return the interpreter of ``folder/name``, made and filled by pip where it is not yet.

    An environment that another list of versions filled, or that pip left half full, is made anew.

    Raises
    ------
    SystemExit
        With pip's last words, if it fails.
    """
    home, wanted = folder / name, requirements(name)
    python, stamp = home / "bin" / "python", home / "filled-from.txt"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return str(python)
    print(f"making the environment of {name} in {home}", file=sys.stderr, flush=True)
    _do([sys.executable, "-m", "venv", "--clear", str(home)], name)
    # Without wheels alone, pip may spend minutes on building scikit-image.
    install = [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:"]
    _do([*install, "--requirement", str(HERE / "peers" / f"{name}.txt")], name)
    stamp.write_text(wanted, encoding="utf-8")
    return str(python)


def _do(command: list[str], name: str) -> None:
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        words = " ".join(done.stderr.split())[-300:]
        sys.exit(f"error: {name}: its environment could not be made: {words}")


def versions(python: str, name: str) -> dict[str, str | None]:
    """Return the versions of Python and of all that ``peers/NAME.txt`` names, None where absent."""
    names = [line.split("==")[0] for line in requirements(name).split()]
    done = subprocess.run(
        [python, "-c", _FREEZE, *names], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"error: {name}: {python} does not run: {done.stderr.strip()[-200:]}")
    found: dict[str, str | None] = json.loads(done.stdout)
    return found
