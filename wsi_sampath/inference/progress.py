"""What a run tells while it runs. The command line shows it; Python callers may ignore it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the course of a run; all calls come from one thread, but for `warn`."""

    def begin(self, slide: str, n_tiles: int) -> None:
        """Start a slide that has `n_tiles` tiles to analyse."""
        ...

    def advance(self, n_tiles: int) -> None:
        """Count tiles that are done."""
        ...

    def warn(self, message: str) -> None:
        """Tell something that the user should know."""
        ...

    def note(self, message: str) -> None:
        """Tell something that is as it should be."""
        ...

    def end(self) -> None:
        """Finish the slide, done or failed."""
        ...


class Silent:
    """A progress that tells nothing."""

    def begin(self, slide: str, n_tiles: int) -> None:
        """See `Progress`."""

    def advance(self, n_tiles: int) -> None:
        """See `Progress`."""

    def warn(self, message: str) -> None:
        """See `Progress`."""

    def note(self, message: str) -> None:
        """See `Progress`."""

    def end(self) -> None:
        """See `Progress`."""
