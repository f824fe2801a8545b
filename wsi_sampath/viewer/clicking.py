"""What the page asks for when somebody draws, clicks, and keeps what is found."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wsi_sampath.errors import UsageError, WsiError
from wsi_sampath.viewer.annotations import exported, imported, read_annotations
from wsi_sampath.viewer.answers import finite
from wsi_sampath.viewer.app import read_json
from wsi_sampath.viewer.asking import Asker
from wsi_sampath.viewer.desk import NO_MODEL, Desk
from wsi_sampath.viewer.drawn import Frame, Place, Told
from wsi_sampath.viewer.making import answer_json
from wsi_sampath.viewer.requests import Question, ToldStep, event_for, with_classes
from wsi_sampath.viewer.session import Stale
from wsi_sampath.viewer.shelf import Shelf
from wsi_sampath.viewer.wishes import Answered

ASK_LIMIT_S = 60.0
"""How long a question may wait for its square; the page asks again when `look` says it is ready."""
_FRESH = {"Cache-Control": "no-store"}
_GEOJSON = "application/geo+json"


class ToldPlace(Told):
    """A place on a slide, level-0 px."""

    x: Place
    y: Place


def routes(shelf: Shelf, desk: Desk, *, ask_limit_s: float = ASK_LIMIT_S) -> list[Route]:
    """Return what is answered about annotations and clicks.

    Parameters
    ----------
    shelf
        The slides.
    desk
        Their sessions, and who answers.
    ask_limit_s
        How long a question may wait.
    """
    slide = "/api/slides/{id}"
    return [
        *_sessions(f"{slide}/session", desk),
        *_files(shelf, slide, desk),
        *_looks(f"{slide}/look", desk),
        Route(f"{slide}/ask", _ask(desk, ask_limit_s), methods=["POST"]),
    ]


def _sessions(path: str, desk: Desk) -> list[Route]:
    def show(request: Request) -> Response:
        with desk.session(_id(request)) as session:
            return _json(session.text())

    async def change(request: Request) -> Response:
        told: ToldStep = ToldStep.read(await read_json(request))
        return await run_in_threadpool(changed, _id(request), told)

    def changed(slide: str, told: ToldStep) -> Response:
        with desk.session(slide) as session:
            try:
                session.check(told.revision)
                event = event_for(
                    told.event, session, lambda token: desk.accepted(slide, token), desk.maker()
                )
                session.do(event, told.revision)
            except Stale:
                why = {"reason": "stale", "message": "the annotations were changed meanwhile"}
                return _json(session.text({"error": why}), 409)
            return _json(session.text())

    return [Route(path, show), Route(path, change, methods=["POST"])]


def _files(shelf: Shelf, path: str, desk: Desk) -> list[Route]:
    # A file may take a gigabyte while it is read.
    one_at_a_time = threading.Lock()

    def download(request: Request) -> Response:
        slide = _id(request)
        with desk.session(slide) as session:
            content = exported(session.drawing, session.subject.frame)
        name = quote(shelf.entry(slide).path.stem, safe="", errors="replace")
        saved = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}.geojson"}
        return Response(content, media_type=_GEOJSON, headers={**_FRESH, **saved})

    async def upload(request: Request) -> Response:
        return await run_in_threadpool(uploaded, _id(request), await request.body())

    def uploaded(slide: str, raw: bytes) -> Response:
        shelf.entry(slide)
        with one_at_a_time:
            objects = read_annotations(raw)
        with desk.session(slide) as session:
            found = imported(objects, session.drawing, session.subject.frame)
            if found.objects:
                event = with_classes("import", session, found.objects, found.classes)
                session.do(event, session.drawing.revision)
            notes = [*session.notes, *found.notes]
            return _json(session.text({"imported": len(found.objects), "notes": notes}))

    return [
        Route(f"{path}/annotations.geojson", download),
        Route(f"{path}/annotations", upload, methods=["POST"]),
    ]


def _looks(path: str, desk: Desk) -> list[Route]:
    def tell(request: Request) -> Response:
        return told(_id(request), finite(request, "x"), finite(request, "y"), start=False)

    async def start(request: Request) -> Response:
        place: ToldPlace = ToldPlace.read(await read_json(request))
        return await run_in_threadpool(told, _id(request), place.x, place.y, start=True)

    def told(slide: str, x: float, y: float, *, start: bool) -> Response:
        question: Question = Question.read({"points": [(x, y, 1)]})
        prompt = question.prompt(desk.frame(slide).size)
        look = _asker(desk).look(slide, prompt, start=start)
        return JSONResponse(asdict(look), headers=_FRESH)

    return [Route(path, tell), Route(path, start, methods=["POST"])]


def _ask(desk: Desk, limit_s: float) -> Callable[[Request], Any]:
    async def ask(request: Request) -> Response:
        question: Question = Question.read(await read_json(request))
        frame, answer = await run_in_threadpool(asked, _id(request), question)
        try:
            answered = await asyncio.wait_for(asyncio.wrap_future(answer), limit_s)
        except TimeoutError:
            message = "the model has not seen this place yet; ask again when it has"
            raise WsiError("busy", message) from None
        return JSONResponse(await run_in_threadpool(answer_json, answered, frame), headers=_FRESH)

    def asked(slide: str, question: Question) -> tuple[Frame, Future[Answered]]:
        frame = desk.frame(slide)
        prompt = question.prompt(frame.size)
        return frame, _asker(desk).ask(slide, prompt, question.previous)

    return ask


def _asker(desk: Desk) -> Asker:
    if desk.asker is None:
        raise UsageError(NO_MODEL)
    return desk.asker


def _id(request: Request) -> str:
    return str(request.path_params["id"])


def _json(text: str, status: int = 200) -> Response:
    return Response(text, status, media_type="application/json", headers=_FRESH)
