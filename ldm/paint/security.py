"""Who may ask: a web page of another site in the user's own browser is the threat to a server on 127.0.0.1.

Such a page reaches this server by a plain link, a form, a picture's address or a name that it points at
127.0.0.1 (DNS rebinding). Its browser says so: by Host, Origin and Sec-Fetch-Site. A form cannot send X-IIDM.
"""
from __future__ import annotations

import asyncio
import hmac
import ipaddress
import socket
from typing import Optional

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ldm.paint import limits
from ldm.paint.errors import Refusal

LOOPBACK = ("127.0.0.1", "localhost")
SAFE_METHODS = ("GET", "HEAD")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; "
                               "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def host_name(netloc: str) -> str:
    """The name in a Host header or an Origin, without its port and in lower case."""
    if netloc.startswith("["):
        return netloc[1:].partition("]")[0].lower()
    return netloc.partition(":")[0].lower()


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
        return True
    except ValueError:
        return False


class Guard:
    """ASGI middleware: refuses what another site may have sent, and bounds the open requests.

    host: the address that is listened on. token: demanded of each call of the API; needed wherever `host` is
    not this computer only.
    """

    def __init__(self, app: ASGIApp, host: str = "127.0.0.1", token: Optional[str] = None) -> None:
        self.app, self.token, self.open = app, token, 0
        self.names = {*LOOPBACK, host}
        # With a token, a name that is pointed here gains nothing, so any address of this computer will do.
        self.any_address = token is not None
        if token is not None:
            self.names.add(socket.gethostname().lower())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        self.open += 1
        try:
            if self.open > limits.OPEN_REQUESTS:
                raise Refusal(503, "the server", f"answers {limits.OPEN_REQUESTS} requests at the moment",
                              "try again in a moment", wait=1)
            self.check(scope["method"], scope["path"], Headers(scope=scope))
            await self.app(scope, receive, guarded)
        except Refusal as refusal:
            if started:
                raise
            await refusal.response()(scope, receive, guarded)
        except asyncio.CancelledError:                  # the server ends and waits no longer for this request
            if not started:
                await Refusal(503, "the server", "ends", "start it again").response()(scope, receive, guarded)
        finally:
            self.open -= 1

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Raises Refusal for a request that is not the page's own, nor a program's of this user."""
        host = headers.get("host", "")
        name = host_name(host)
        if name not in self.names and not (self.any_address and is_address(name)):
            raise Refusal(400, "Host", "is not this server's name", "use the address that was printed")
        own = (f"http://{host}".lower(), f"https://{host}".lower())
        if any(origin.lower() not in own for origin in headers.getlist("origin")):
            raise Refusal(403, "Origin", "is another site", "open the page itself")
        sites = set(headers.getlist("sec-fetch-site"))
        if sites - {"none", "same-origin"} and not self.is_link(method, path, headers):
            raise Refusal(403, "Sec-Fetch-Site", "says that another site asks", "open the page itself")
        if method not in SAFE_METHODS and "x-iidm" not in headers:
            raise Refusal(403, "X-IIDM", "is missing", "send the header `X-IIDM: 1`")
        if self.token is not None and path.startswith("/api"):
            given = headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
                raise Refusal(403, "Authorization", "does not hold this server's token",
                              "open the address that was printed, with its token")

    @staticmethod
    def is_link(method: str, path: str, headers: Headers) -> bool:
        """A link on another site to the page itself. It changes nothing, and the page cannot be framed."""
        return method == "GET" and path == "/" and headers.get("sec-fetch-mode") == "navigate" \
            and headers.get("sec-fetch-dest", "document") == "document"
