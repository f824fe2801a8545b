"""Slides that lie on a server: a path that is a URL, and its file, read by ranges of bytes."""
