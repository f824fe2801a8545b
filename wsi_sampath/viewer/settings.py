"""What ``wsi-view`` is told: where it listens, and how slides are opened and asked about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from wsi_sampath.inference.prompting.settings import PromptSettings
from wsi_sampath.inference.settings import Device, ReaderName, SlideMpp
from wsi_sampath.settings import Flags, Frozen, Help, Panel

FIRST_PORT = 8642
"""Where a free port is looked for, upwards, unless one is named."""


class ViewSettings(Frozen):
    """Settings of the viewer; the command line and Python build the same object."""

    model: Annotated[
        str | None,
        *(Panel.NETWORK, Flags("--model", "-m")),
        Help("Model that answers clicks: a name from wsi-models list, or a file [no clicking]."),
    ] = None
    device: Annotated[
        Device,
        Panel.NETWORK,
        Help("Where the network runs: auto, cpu, cuda, cuda:N or mps."),
    ] = "auto"
    slide_mpp: SlideMpp = None
    reader: ReaderName = "auto"
    session: Annotated[
        Path | None,
        *(Panel.VIEW, Flags(metavar="FOLDER")),
        Help("Keep here what is clicked and drawn [beside the slide]."),
    ] = None
    port: Annotated[
        Annotated[int, Field(ge=1, le=65535)] | None,
        *(Panel.VIEW, Flags(metavar="N")),
        Help(f"Port to listen on [the first that is free, from {FIRST_PORT} up]."),
    ] = None
    host: Annotated[
        str,
        Panel.VIEW,
        Help("Address to listen on; any but this machine's own lets others in who have the link."),
    ] = "127.0.0.1"
    browser: Annotated[
        bool,
        *(Panel.VIEW, Flags("--no-browser")),
        Help("Print the link only, and open no browser."),
    ] = True

    def prompting(self) -> PromptSettings | None:
        """Return how prompts are answered; None where no model was asked for."""
        if self.model is None:
            return None
        return PromptSettings(
            model=self.model, device=self.device, slide_mpp=self.slide_mpp, reader=self.reader
        )
