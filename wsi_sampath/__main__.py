"""``python -m wsi_sampath segment ...``: the commands where their scripts are not on the PATH."""

from __future__ import annotations

import sys
from importlib import import_module

from wsi_sampath.cli import COMMANDS
from wsi_sampath.errors import EXIT_OK, EXIT_USAGE
from wsi_sampath.version import __version__

_COMPLETION = "completion"


def main() -> None:
    """Run the command that the first argument names with the other arguments."""
    name = sys.argv[1].removeprefix("wsi-") if len(sys.argv) > 1 else ""
    if name in COMMANDS:
        sys.argv[:2] = [f"wsi-{name}"]
        import_module(f"wsi_sampath.cli.{name}").main()
    elif name == _COMPLETION:
        sys.argv[:2] = [_COMPLETION]
        import_module("wsi_sampath.cli.completion").main()
    elif name == "--version":
        print(f"wsi_sampath {__version__}")
    else:
        usage = f"python -m wsi_sampath {'|'.join((*COMMANDS, _COMPLETION))} [ARGUMENTS]"
        asked = name in ("-h", "--help")
        print(f"usage: {usage}", file=sys.stdout if asked else sys.stderr)
        sys.exit(EXIT_OK if asked else EXIT_USAGE)


if __name__ == "__main__":
    main()
