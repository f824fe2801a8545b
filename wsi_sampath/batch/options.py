"""How a batch goes about its slides; nothing here changes a result."""

from __future__ import annotations

from typing import Annotated

from wsi_sampath.settings import Flags, Frozen, Help, Panel


class BatchOptions(Frozen):
    """How a batch goes about its slides; the fields with `Help` are options of the command line.

    Attributes
    ----------
    poll_s
        Seconds between looks at slides that another process holds.
    wait
        Whether to wait for slides that another process holds; else they end as ``busy``.
    pages
        Keep ``slides.csv`` and ``report.html`` up to date; a cluster's task leaves that to the
        process that sees all slides.
    """

    fail_fast: Annotated[
        bool,
        *(Panel.BATCH, Flags("--fail-fast/--no-fail-fast")),
        Help("Stop at the first slide that fails."),
    ] = False
    retry_failed: Annotated[
        bool,
        *(Panel.BATCH, Flags("--retry-failed/--no-retry-failed")),
        Help("Try again the slides that could not be read in an earlier run."),
    ] = False
    poll_s: float = 2.0
    wait: bool = True
    pages: bool = True
