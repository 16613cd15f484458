#!/usr/bin/env python
"""A page in the browser: paint a mask, choose a style, and a landscape appears."""
from __future__ import annotations

import argparse
import asyncio
import os
import re
import secrets
import sys
import threading
import webbrowser
from pathlib import Path
from typing import Optional, Sequence

import cli

from ldm import files
from ldm.inference import fastest, job, workers
from ldm.platform import runtime
from ldm.platform.devices import visible_devices

try:
    from ldm.paint import process, server
    from ldm.paint.security import LOOPBACK
except ModuleNotFoundError as e:
    cli.fail(f"{e.name}: is not installed; start `bash tools/paint.sh`, or `pip install starlette uvicorn`")

ROOT = Path(__file__).resolve().parents[1]


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--model", default=ROOT / "models/demo", type=Path,
                        help="folder with config.yaml, unet.safetensors, autoencoder.safetensors")
    parser.add_argument("--host", default="127.0.0.1",
                        help="address to listen on; any but this computer's own needs a token")
    parser.add_argument("--port", default=7860, type=int, help="or the next one that is free")
    parser.add_argument("--token",
                        help="a secret that the page must know; made and printed where --host needs one")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    parser.add_argument("--keep", type=Path, metavar="FOLDER",
                        help="write each picture there, with all that it was made from; without it they live "
                             "in memory, for an hour")
    parser.add_argument("--segmenter", type=Path, metavar="FILE",
                        help="as of tools/label_photos.py: it labels photographs")
    parser.add_argument("--precision", default="fp32", choices=(*runtime.PRECISIONS, fastest.AUTO),
                        help="as of tools/infer.py")
    args = parser.parse_args(argv)
    fastest.check(args.precision, "--precision")
    if args.keep is not None:
        job.refuse_inputs(args.keep, args.model)
        files.check_writable(args.keep)
    if args.token is not None and not re.fullmatch(r"[A-Za-z0-9_-]{8,128}", args.token):
        parser.error("--token: is not a secret; give 8 to 128 letters, digits, _ and -")
    if not 0 <= args.port <= 65535:
        parser.error(f"--port: is {args.port}; choose 0 to 65535")
    if args.token is None and args.host not in LOOPBACK:
        args.token = secrets.token_urlsafe(24)
    return args


def has_screen() -> bool:
    """Is there a screen for a browser? Without one, a browser of text would take the terminal."""
    named = ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME", "BROWSER")
    return sys.platform != "linux" or any(os.environ.get(name) for name in named)


def main(argv: Optional[Sequence[str]] = None, command: Sequence[str] = process.WORKER) -> None:
    args = parse(argv)
    options = server.Options(args.model, ROOT / "data/samples", args.host, args.port,
                             args.token, args.precision, args.keep, args.segmenter)
    sock = server.listen(options.host, options.port)
    port = sock.getsockname()[1]
    if port != options.port and options.port:
        print(f"port {options.port} is taken; using {port}", file=sys.stderr)
    address = server.address(options, port)

    environments = workers.devices(len(visible_devices())) if runtime.on_gpu() else ({},)

    def ready():
        print(address, flush=True)
        if not args.no_browser and has_screen():
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    asyncio.run(server.serve(options, sock, ready, command, environments))


if __name__ == "__main__":
    cli.run(main)
