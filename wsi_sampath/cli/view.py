"""``wsi-view``: slides and results in a browser, to look at, click and correct."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_sampath.cli.entry import BEFORE_ANY_SLIDE, new_app, run
from wsi_sampath.cli.help import Command
from wsi_sampath.cli.options import with_options
from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.extras import install_hint
from wsi_sampath.slides.remote.place import located
from wsi_sampath.viewer.settings import ViewSettings

if TYPE_CHECKING:
    from wsi_sampath.models.spec import ModelSpec
    from wsi_sampath.viewer.shelf import Shelf

app = new_app()
_NEEDED = ("starlette", "uvicorn")


@app.command(cls=Command)
@with_options(settings=ViewSettings)
def view(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="SLIDE|FOLDER|RESULT.zarr",
            parser=located,
            help="A slide and results of it, a result alone, or a folder of slides or of a batch.",
        ),
    ],
    settings: ViewSettings,
) -> None:
    """Look at slides and results in a browser; with --model, click on what is to be outlined.

    The link that is printed lets in whoever opens it on this machine. Ctrl-C ends the server.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        needed = install_hint("viewer")
        raise UsageError(f"wsi-view needs {' and '.join(missing)}: {needed}")
    from wsi_sampath.cli.progress import say
    from wsi_sampath.explained import explained
    from wsi_sampath.viewer import clicking
    from wsi_sampath.viewer.app import build_app
    from wsi_sampath.viewer.desk import Desk
    from wsi_sampath.viewer.finding import find
    from wsi_sampath.viewer.guard import Access
    from wsi_sampath.viewer.serving import is_loopback, link, listen, open_browser, serve
    from wsi_sampath.viewer.shelf import Shelf

    found = find(paths, settings)
    shelf = Shelf(found.entries, settings)
    try:
        with explained(str(paths[0])):
            if [one.status for one in found.entries] == ["slide"]:
                _open_now(shelf)
            model = _model(settings)
        listening = listen(settings.host, settings.port)
        port = listening.getsockname()[1]
        access = Access(settings.host, port)

        def started() -> None:
            if not is_loopback(settings.host):
                say(
                    f"warning: --host {settings.host} lets in everybody who reaches this machine "
                    "and has the link, and what is sent can be read on the way; ssh -L "
                    f"{port}:localhost:{port} from the other machine is safer"
                )
            print(f"wsi-view: {link(settings.host, port, access.token)}", flush=True)
            if settings.browser:
                open_browser(link(settings.host, port, access.single_token()))

        with Desk(shelf, tell=lambda why: say(f"warning: {why}")) as desk:
            for warning in desk.warnings():
                say(f"warning: {warning}")
            rooms = clicking.routes(shelf, desk)
            server = build_app(
                *(shelf, access), title=found.title, renew=found.renew, model=model, rooms=rooms
            )
            serve(server, listening, started=started)
    finally:
        shelf.close()


def _open_now(shelf: Shelf) -> None:
    """Open the only slide before the server starts, and tell what is doubtful about it."""
    from wsi_sampath.cli.progress import say

    (entry,) = shelf.entries
    try:
        shown = shelf.slide(entry.id, unscaled=shelf.settings.model is None)
    except WsiError as error:
        raise error.about(str(entry.path)) from None
    for warning in shown.warnings:
        say(f"warning: {warning}")


def _model(settings: ViewSettings) -> ModelSpec | None:
    """Return what the model is; its weights are loaded while the page is up already."""
    if settings.model is None:
        return None
    from wsi_sampath.models.described import model_spec

    return model_spec(settings.model)


def main() -> None:
    """Run the command; every known failure is one line and an exit code."""
    run(app, "wsi-view", wrong_use=BEFORE_ANY_SLIDE)
