"""Command line: one thin file a command."""
