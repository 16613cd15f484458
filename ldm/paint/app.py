"""The HTTP API and the page: routes only. What they do is in orders, uploads, pool, store and bundle."""
from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from functools import partial
from pathlib import Path
from typing import Any, AsyncIterator, Callable, Optional
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ldm.diffusion.samplers import SAMPLERS
from ldm.diffusion.schedule import SPACINGS
from ldm.errors import UserError
from ldm.inference.color_transfer import MODES
from ldm.paint import bundle, events, limits, made, orders, uploads
from ldm.paint.bodies import Bodies
from ldm.paint.errors import Refusal, gone, of_user_error
from ldm.paint.files import Files
from ldm.paint.jobs import Job
from ldm.paint.orders import ID
from ldm.paint.pool import Pool
from ldm.paint.security import Guard
from ldm.paint.segmenters import CHECK, LABEL
from ldm.paint.store import Mask, Reference, Result, identity
from ldm.weights import published

STATIC = Path(__file__).parent / "static"
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
PICTURES = ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/tiff", "image/gif")


class Page:
    """The routes over a pool of model processes.

    model: its name and size, see server.model_facts. samples: [{name, mask, reference}], their ids. able:
    which questions a segmenter can answer, see segmenters.find. stopping: set when the server ends.
    """

    def __init__(self, pool: Pool, model: dict[str, Any], samples: list[dict[str, str]], able: dict[str, str],
                 stopping: asyncio.Event) -> None:
        self.pool, self.model, self.samples, self.able, self.stopping = pool, model, samples, able, stopping
        self.store, self.queue, self.size = pool.store, pool.queue, pool.size
        self.bodies, self.decoding = Bodies(stopping), asyncio.Semaphore(1)
        self.server, self.files = secrets.token_hex(8), Files(STATIC)

    def routes(self) -> list[Any]:
        get, post = ["GET"], ["POST"]
        return [
            Route("/", self.index, methods=get),
            Route("/static/{name}", self.static, methods=get),
            Route("/api/state", self.state, methods=get),
            Route("/api/masks", self.add_mask, methods=post),
            Route("/api/masks/{file}", self.mask, methods=get),
            Route("/api/references", self.add_reference, methods=post),
            Route("/api/references/{file}", self.reference, methods=get),
            Route("/api/made", self.made, methods=post),
            Route("/api/jobs", self.add_job, methods=post),
            Route("/api/jobs/{id}", self.job, methods=["GET", "DELETE"]),
            Route("/api/jobs/{id}/events", self.job_events, methods=get),
            Route("/api/results/{id}/check", self.check, methods=get),
            Route("/api/results/{file}", self.result, methods=get),
            Route("/api/bundles/{file}", self.bundle, methods=get),
            Route("/api/label", self.label, methods=post),
        ]

    # ---- the page and its state ----------------------------------------------------------------------------

    async def index(self, request: Request) -> Response:
        return self.files.response("index.html", request.headers)

    async def static(self, request: Request) -> Response:
        return self.files.response(request.path_params["name"], request.headers)

    async def state(self, request: Request) -> Response:
        pool = self.pool
        return JSONResponse({
            "server": self.server, "model": {**self.model, **pool.facts}, "presets": pool.presets.listed(),
            "samplers": list(SAMPLERS), "spacings": list(SPACINGS), "color_transfers": ["", *MODES],
            "limits": {"body": limits.BODY, "pixels": limits.PIXELS, "variations": limits.VARIATIONS,
                       "rounds": limits.ROUNDS, "steps": limits.STEPS},
            "queue": {"running": len(self.queue.running), "waiting": len(self.queue.waiting)},
            "worker": pool.state(), "warnings": pool.warnings(), "samples": self.samples,
            **{question: bool(file) for question, file in self.able.items()}},
            headers={"Cache-Control": "no-store"})

    # ---- masks and references ------------------------------------------------------------------------------

    async def add_mask(self, request: Request) -> Response:
        kind, name = content_type(request), file_name(request, "the mask")
        if kind == "application/octet-stream":
            data = await self.bodies.read(request)
            new = uploads.mask_of_ids(data, self.size, request.headers.get("x-size", ""), name)
        elif kind in PICTURES:
            fit = request.query_params.get("fit", "refuse")
            if fit not in uploads.FITS:
                raise Refusal(400, "fit", f"is {fit[:40]!r}", f"choose {', '.join(uploads.FITS)}")
            colors = uploads.assignment(request.query_params.get("colors", ""))
            new = await self.decoded(request, partial(uploads.mask_of_image, size=self.size, name=name,
                                                      fit=fit, assigned=colors))
        else:
            raise wrong_type(kind)
        self.store.add(new.mask)
        return JSONResponse({"id": new.mask.id, "size": list(self.size), "shares": uploads.shares(new.mask),
                             "warnings": new.warnings, "from": list(new.from_size)}, 201)

    async def mask(self, request: Request) -> Response:
        name, suffix = self.file(request, "bin", "png")
        mask = self.found(Mask, "the mask", name)
        if suffix == "bin":
            return download(mask.ids, "application/octet-stream", f"{mask.id}.bin")
        colored = request.query_params.get("colored") == "1"
        return download(bundle.mask_png(mask, self.size, colored), "image/png", f"mask-{mask.id[:8]}.png")

    async def add_reference(self, request: Request) -> Response:
        if content_type(request) not in PICTURES:
            raise wrong_type(content_type(request))
        crop = request.query_params.get("crop", "")
        reference = await self.decoded(request, partial(uploads.reference_of_image, size=self.size, crop=crop,
                                                        name=file_name(request, "the picture")))
        self.store.add(reference)
        return JSONResponse({"id": reference.id, "size": list(self.size)}, 201)

    async def reference(self, request: Request) -> Response:
        name, suffix = self.file(request, "png", "jpg")
        reference = self.found(Reference, "the picture", name)
        if suffix == "png":
            return download(reference.png, "image/png", f"style-{name[:8]}.png")
        data = await self.in_thread(uploads.thumbnail, reference.png)
        return download(data, "image/jpeg", f"style-{name[:8]}.jpg")

    async def decoded(self, request: Request, decode: Callable[..., Any]) -> Any:
        """What `decode` makes of the body. Pictures are decoded beside the event loop, one at a time."""
        data = await self.bodies.read(request)
        async with self.decoding:
            try:
                return await self.in_thread(decode, data)
            except UserError as e:
                raise of_user_error(e) from None

    @staticmethod
    async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)

    async def made(self, request: Request) -> Response:
        """What a bundle or a picture of ours was made from; null for other pictures."""
        if content_type(request) not in (*PICTURES, *made.ZIP):
            raise wrong_type(content_type(request))
        found = await self.decoded(request, partial(made.read, name=file_name(request, "the file"),
                                                    size=self.size))
        parts = [part for part in found[:2] if part] if found else []
        for part in parts:
            self.store.add(part)
        ids = {type(part).__name__.lower(): part.id for part in parts}
        return JSONResponse(found and {**found.about, **ids})

    # ---- questions to a segmenter --------------------------------------------------------------------------

    async def label(self, request: Request) -> Response:
        if content_type(request) not in PICTURES:
            raise wrong_type(content_type(request))
        name = file_name(request, "the photograph")
        data = await self.decoded(request, partial(uploads.readable, name=name))
        found = await self.ask_segmenter(LABEL, picture=data, name=name)
        mask = Mask(identity(found["ids"]), found["ids"])
        self.store.add(mask)
        return JSONResponse({"id": mask.id, "size": list(self.size), "shares": uploads.shares(mask),
                             "warnings": [found["doubts"]] if found["doubts"] else [],
                             "confidence": found["confidence"]}, 201)

    async def check(self, request: Request) -> Response:
        result = self.found(Result, "the picture", request.path_params["id"])
        found = await self.ask_segmenter(CHECK, picture=result.png, mask=result.mask.ids)
        return JSONResponse(found, headers={"Cache-Control": "no-store"})

    async def ask_segmenter(self, kind: str, **question: Any) -> dict[str, Any]:
        """The model process's answer. Raises Refusal, 501 without a segmenter."""
        if not self.able[kind]:
            raise Refusal(501, "this", "needs a segmenter",
                          f"{published.how_to_get('segformer-ade-b5')}, then start the page again")
        asking = asyncio.ensure_future(self.pool.ask(kind, size=self.size, **question))
        ending = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({asking, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise Refusal(503, "the server", "ends", "start it again")
            return asking.result()
        finally:
            asking.cancel()
            ending.cancel()

    # ---- jobs and what they make ---------------------------------------------------------------------------

    async def add_job(self, request: Request) -> Response:
        tree = await self.bodies.json(request)
        if self.pool.is_dead():
            raise Refusal(503, "the model", self.pool.state()["message"], "start the page again")
        job = self.queue.add(orders.read(tree, self.store, self.pool.presets))
        return JSONResponse({"id": job.id, "position": self.queue.position(job),
                             "seconds": self.queue.seconds(job)}, 202)

    async def job(self, request: Request) -> Response:
        job = self.found_job(request)
        if request.method == "DELETE":
            self.queue.cancel(job)
            return JSONResponse({"id": job.id, "state": job.state}, 202)
        newest = {kind: data for _, kind, data in job.events(0)}
        return JSONResponse({
            "id": job.id, "state": job.state, "position": self.queue.position(job),
            "seconds": self.queue.seconds(job), "compiling": job.compiling, "progress": newest.get("step"),
            "preview": newest.get("preview", {}).get("png"),
            "results": newest.get("done", {}).get("results"), "error": newest.get("failed")},
            headers={"Cache-Control": "no-store"})

    async def job_events(self, request: Request) -> Response:
        job = self.found_job(request)
        after = request.headers.get("last-event-id", "")
        number = int(after) if after.isdecimal() and len(after) < 10 else 0
        return StreamingResponse(events.stream(job, number, self.stopping), media_type="text/event-stream",
                                 headers={"Cache-Control": "no-store"})

    def found_job(self, request: Request) -> Job:
        job = self.queue.jobs.get(request.path_params["id"])
        if job is None:
            raise gone("the job")
        job.touch()
        return job

    async def result(self, request: Request) -> Response:
        name, suffix = self.file(request, "png", "jpg")
        result = self.found(Result, "the picture", name)
        data, kind = (result.png, "image/png") if suffix == "png" else (result.jpg, "image/jpeg")
        return download(data, kind, f"landscape-{name[:8]}.{suffix}")

    async def bundle(self, request: Request) -> Response:
        name, _ = self.file(request, "zip")
        result = self.found(Result, "the picture", name)
        data = await self.in_thread(bundle.pack, result, self.size, self.model["name"])
        return download(data, "application/zip", f"landscape-{name[:8]}.zip")

    def found(self, kind: type, what: str, name: str) -> Any:
        thing = self.store.get(kind, name)
        if thing is None:
            raise gone(what)
        return thing

    @staticmethod
    def file(request: Request, *suffixes: str) -> tuple[str, str]:
        """The id and the suffix of a path's last part. It is looked up in memory, and never is a path."""
        name, _, suffix = request.path_params["file"].partition(".")
        if not ID.fullmatch(name) or suffix not in suffixes:
            raise gone("this address")
        return name, suffix


def content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def wrong_type(kind: str) -> Refusal:
    return Refusal(415, "Content-Type", f"is {kind[:60] or 'missing'}",
                   f"send application/octet-stream (masks only), {', '.join(PICTURES)}")


def file_name(request: Request, default: str) -> str:
    """The name of the client's file, for messages only: the header X-Name, percent-encoded."""
    name = re.sub(r"[^\w .()-]", "_", unquote(request.headers.get("x-name", ""), errors="replace"))
    return name[-80:] or default


def download(data: bytes, kind: str, name: str) -> Response:
    disposition = f'attachment; filename="{name}"'
    return Response(data, media_type=kind, headers={**FOREVER, "Content-Disposition": disposition})


async def refuse(request: Request, error: Exception) -> Response:
    """Refusals, and what Starlette itself refuses, in the same words."""
    if isinstance(error, Refusal):
        return error.response()
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return Refusal(405, request.method, "is not possible here", "see docs/painting.md").response()
    return Refusal(error.status_code, "this address", "does not exist", "see docs/painting.md").response()


def build(page: Page, host: str = "127.0.0.1", token: Optional[str] = None) -> Starlette:
    """The application; its lifespan is that of the model processes."""
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await page.pool.start()
        try:
            yield
        finally:
            await page.pool.end()

    return Starlette(routes=page.routes(), lifespan=lifespan,
                     middleware=[Middleware(Guard, host=host, token=token)],
                     exception_handlers={Refusal: refuse, HTTPException: refuse})
