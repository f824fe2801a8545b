"""The server's rooms put together: the page, the way in, and what each room answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from wsi_sampath.errors import WsiError
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.slides.readers.base import TileError
from wsi_sampath.viewer import gallery, result_routes, slide_info, slide_tiles
from wsi_sampath.viewer.gallery import Entries
from wsi_sampath.viewer.guard import LOGIN, Access, Guard, cookie_name
from wsi_sampath.viewer.refusals import Refused, refused
from wsi_sampath.viewer.shelf import Missing, Shelf
from wsi_sampath.viewer.slide_tiles import SlideTiles

PAGE = Path(__file__).parent / "static"
# As many requests as a browser has open at once, twice; each may hold a region of a slide.
_MOST_THREADS = 12
_NOT_THERE = "there is nothing at this address"


def build_app(
    shelf: Shelf,
    access: Access,
    *,
    title: str,
    renew: Entries | None = None,
    model: ModelSpec | None = None,
    rooms: Sequence[BaseRoute] = (),
    page: Path = PAGE,
) -> Guard:
    """Return the whole server as an ASGI app, behind its guard.

    Parameters
    ----------
    shelf
        What is shown.
    access
        Who is let in.
    title, renew, model
        See `gallery.routes`.
    rooms
        Further routes.
    page
        Folder of the built page.
    """
    tiles = SlideTiles()
    routes: list[BaseRoute] = [
        Route(LOGIN, _login(access), methods=["POST"]),
        *gallery.routes(shelf, title, renew=renew, model=model),
        *slide_info.routes(shelf, tiles),
        *slide_tiles.routes(shelf, tiles),
        *result_routes.routes(shelf),
        *rooms,
        Mount("/api", _nothing),
        Mount("/", StaticFiles(directory=page, html=True)),
    ]
    return Guard(
        Starlette(routes=routes, exception_handlers=_HANDLERS, lifespan=_few_threads), access
    )


async def read_json(request: Request) -> Any:
    """Return the body of a request as JSON.

    Raises
    ------
    Refused
        400 where it is something else.
    """
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refused(400, "bad-input", "the body is not JSON") from None


def _login(access: Access) -> Any:
    async def login(request: Request) -> Response:
        body = await read_json(request)
        if not isinstance(body, dict) or not access.admits(body.get("token")):
            raise Refused(401, "no-token", "open the link that wsi-view printed")
        answer = Response(status_code=204)
        name = cookie_name(request.headers["host"])
        answer.set_cookie(name, access.ticket, httponly=True, samesite="strict")
        return answer

    return login


async def _nothing(*_asgi: object) -> None:
    raise Refused(404, "missing", _NOT_THERE)


@asynccontextmanager
async def _few_threads(_app: Starlette) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = _MOST_THREADS
    yield


def _handled(_request: Request, error: Exception) -> Response:
    return _as_refused(error).response()


def _as_refused(error: Exception) -> Refused:
    match error:
        case Refused():
            return error
        case Missing():
            return Refused(404, "missing", str(error) or _NOT_THERE)
        case WsiError():
            return refused(error)
        case TileError():
            return Refused(503, "unreadable", "the slide cannot be decoded there")
        case MemoryError():
            return Refused(503, "out-of-memory", "the machine ran out of memory; try again")
        case HTTPException(status_code=404):
            return Refused(404, "missing", _NOT_THERE)
        case HTTPException():
            return Refused(error.status_code, "bad-input", "that cannot be asked for here")
        case ClientDisconnect():
            return Refused(400, "bad-input", "the request ended early")
        case _:
            # Uvicorn shows the defect in the terminal.
            return Refused(500, "internal", "the server failed; its terminal says where")


_KINDS = (
    *(Refused, Missing, WsiError, TileError, MemoryError),
    *(HTTPException, ClientDisconnect, Exception),
)
_HANDLERS: Any = dict.fromkeys(_KINDS, _handled)
