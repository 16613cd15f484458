"""Starts the page: finds a port, serves, and ends at Ctrl-C within a second, streams or not."""
from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Optional, Sequence

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ldm import config as configs
from ldm import files, images, sizes
from ldm.errors import UserError
from ldm.paint import limits, process, segmenters, uploads
from ldm.paint.app import Page, build
from ldm.paint.classes import palette
from ldm.paint.keep import Keeper
from ldm.paint.pool import Pool
from ldm.paint.presets import Presets
from ldm.paint.security import LOOPBACK
from ldm.paint.store import Mask, Store, identity

PORTS_TRIED = 50
MODELS = process.ROOT / "models"
FITTED = images.Reading(fit="crop")          # samples, where the model has other proportions


class Options(NamedTuple):
    """What the command line decides. model, samples, keep: folders. segmenter: see segmenters.find."""
    model: Path
    samples: Path
    host: str = "127.0.0.1"
    port: int = 7860
    token: Optional[str] = None
    precision: str = "fp32"
    keep: Optional[Path] = None
    segmenter: Optional[Path] = None


class Protocol(H11Protocol):
    """HTTP/1.1 that closes a connection on which no request begins for HEADER_SECONDS: those that send half
    a header, and wait, would use up all connections."""

    waiting: asyncio.TimerHandle

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.wait_for_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.wait_for_request()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self.waiting.cancel()
        super().connection_lost(exc)

    def wait_for_request(self) -> None:
        self.waiting = self.loop.call_later(limits.HEADER_SECONDS, self.close_without, self.cycle)

    def close_without(self, last: Any) -> None:
        if self.cycle is last and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """Uvicorn that tells open streams to end at once; it would wait for them otherwise."""

    stopping: asyncio.Event
    loop: asyncio.AbstractEventLoop
    pool: Pool

    def handle_exit(self, sig: int, frame: Any) -> None:
        self.loop.call_soon_threadsafe(self.stopping.set)
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """A socket on `port`, or on the next one that is free. Raises UserError."""
    for candidate in range(port, min(65536, port + PORTS_TRIED)) if port else [0]:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. Else an answer's body waits 40 ms for the receipt of its head.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.bind((host, candidate))
            sock.listen(128)
            return sock
        except OSError as e:
            sock.close()
            if e.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise UserError("--host", f"{host} cannot be listened on ({e.strerror})",
                                "give an address of this computer") from None
    raise UserError("--port", f"{port} and the next {PORTS_TRIED} are taken", "give another one")


def address(options: Options, port: int) -> str:
    """What the browser opens. The token is in the fragment, which is never sent."""
    host = "127.0.0.1" if options.host in ("0.0.0.0", "", *LOOPBACK) else options.host
    token = f"#token={options.token}" if options.token else ""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{token}"


def model_facts(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the model's config, what the page shows of it). Raises UserError where it cannot be used."""
    config = configs.load(folder / "config.yaml", networks=("unet", "autoencoder"))
    for part in ("unet", "autoencoder"):
        path = folder / f"{part}.safetensors"
        if files.kind_of(path) != "file":
            raise UserError(path, "does not exist", "give the folder of a model")
    size, factor = config["image_size"], sizes.factor(config["autoencoder"])
    return config, {"name": folder.resolve().name, "size": list(size),
                    "latent": [side // factor for side in size],
                    "classes": palette(config.get("classes_seen"))}


def load_samples(folder: Path, size: tuple[int, int], store: Store) -> list[dict[str, str]]:
    """The samples into the store, where they stay -> their names and ids."""
    found = []
    for mask_path, style_path in sample_files(folder):
        ids = images.read_labels(mask_path, size, FITTED).tobytes()
        mask = Mask(identity(ids), ids)
        reference = uploads.reference(images.read_image(style_path, size, FITTED.fit))
        store.keep(mask)
        store.keep(reference)
        found.append({"name": mask_path.stem, "mask": mask.id, "reference": reference.id})
    return found


def sample_files(folder: Path) -> Iterator[tuple[Path, Path]]:
    """The samples' masks and styles."""
    pairs = json.loads((folder / "label_to_img.json").read_text())
    for mask, style in sorted(pairs.items()):
        yield (folder / "masks" / mask).resolve(), (folder / "references" / style).resolve()


def prepared(options: Options, command: Sequence[str] = process.WORKER,
             environments: Sequence[Mapping[str, str]] = ({},)) -> Server:
    """The server, ready to `serve`. Call it in the event loop that will serve.

    command: starts a model process, see ModelProcess; one for each of `environments`. Raises UserError.
    """
    config, facts = model_facts(options.model)
    size, store = (facts["size"][0], facts["size"][1]), Store()
    samples = load_samples(options.samples, size, store)
    mask, style = next(sample_files(options.samples))
    able = segmenters.find(size, options.segmenter and options.segmenter.resolve(), MODELS)
    worker = {"parent": os.getpid(), "model": str(options.model.resolve()), "precision": options.precision,
              "mask": str(mask), "style": str(style), "segmenters": able}
    keeper = options.keep and Keeper(options.keep, size, facts["name"])
    pool = Pool([*command, json.dumps(worker)], environments, size, store, Presets(config), keeper)
    stopping = asyncio.Event()
    server = Server(uvicorn.Config(
        build(Page(pool, facts, samples, able, stopping), options.host, options.token), http=Protocol,
        ws="none", loop="asyncio", lifespan="on", log_config=None, log_level="error", access_log=False,
        server_header=False, proxy_headers=False, limit_concurrency=limits.CONNECTIONS,
        timeout_graceful_shutdown=1))
    server.stopping, server.loop, server.pool = stopping, asyncio.get_running_loop(), pool
    return server


async def serve(options: Options, sock: socket.socket, ready: Callable[[], None],
                command: Sequence[str] = process.WORKER,
                environments: Sequence[Mapping[str, str]] = ({},)) -> None:
    """Serve until Ctrl-C or SIGTERM. ready: called once the address answers. The others: see `prepared`."""
    server = prepared(options, command, environments)
    asyncio.ensure_future(announce(server, ready))
    await server.serve(sockets=[sock])


async def announce(server: Server, ready: Callable[[], None]) -> None:
    while not server.started:
        if server.should_exit:
            return
        await asyncio.sleep(0.01)
    ready()
