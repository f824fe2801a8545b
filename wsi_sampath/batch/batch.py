"""How a batch goes about its slides; nothing here changes a result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchOptions:
    """How a batch goes about its slides.

    Attributes
    ----------
    fail_fast
        Stop at the first slide that fails.
    retry_failed
        Try slides again whose own fault was recorded before.
    poll_s
        Seconds between looks at slides that another process holds.
    wait
        Whether to wait for slides that another process holds; else they end as ``busy``.
    pages
        Keep ``slides.csv`` and ``report.html`` up to date; a cluster's task leaves that to the
        process that sees all slides.
    """

    fail_fast: bool = False
    retry_failed: bool = False
    poll_s: float = 2.0
    wait: bool = True
    pages: bool = True
