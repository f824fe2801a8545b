"""Command line: one thin file a command."""

COMMANDS = ("segment", "prompt", "models", "prepare", "train", "evaluate", "view", "doctor")
"""As ``wsi-NAME`` and ``python -m wsi_sampath NAME``; module `wsi_sampath.cli.NAME`."""
