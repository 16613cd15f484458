#!/usr/bin/env python
"""A page in the browser: paint a mask, choose a style, and a landscape appears."""
import asyncio
import secrets
import sys
import threading
import webbrowser
from pathlib import Path

import cli

from ldm.paint import process, server
from ldm.paint.security import LOOPBACK

ROOT = Path(__file__).resolve().parents[1]


def parse(argv):
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--model", default=ROOT / "models/demo", type=Path,
                        help="folder with config.yaml, unet.safetensors, autoencoder.safetensors")
    parser.add_argument("--host", default="127.0.0.1",
                        help="address to listen on; any but this computer's own needs a token")
    parser.add_argument("--port", default=7860, type=int, help="or the next one that is free")
    parser.add_argument("--token",
                        help="a secret that the page must know; made and printed where --host needs one")
    parser.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    args = parser.parse_args(argv)
    if not 0 <= args.port <= 65535:
        parser.error(f"--port: is {args.port}; choose 0 to 65535")
    if args.token is None and args.host not in LOOPBACK:
        args.token = secrets.token_urlsafe(24)
    return args


def main(argv=None, command=process.WORKER):
    args = parse(argv)
    options = server.Options(args.model, ROOT / "data/samples", ROOT / "configs/infer", args.host, args.port,
                             args.token)
    sock = server.listen(options.host, options.port)
    port = sock.getsockname()[1]
    if port != options.port and options.port:
        print(f"port {options.port} is taken; using {port}", file=sys.stderr)
    address = server.address(options, port)

    def ready():
        print(address, flush=True)
        if not args.no_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    asyncio.run(server.serve(options, sock, ready, command))


if __name__ == "__main__":
    cli.run(main)
