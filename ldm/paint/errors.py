"""Refusals of the HTTP API: a status, and UserError's three parts as JSON."""
from __future__ import annotations

from typing import Any, Optional

from starlette.responses import JSONResponse

from ldm.errors import UserError
from ldm.paint.protocol import parts


class Refusal(Exception):
    """The response to a request that fails.

    status: of HTTP. what, is_, possible: the subject, what is wrong with it, what to do. wait: seconds, for
    Retry-After. more: further keys of the error.
    """

    def __init__(self, status: int, what: str, is_: str, possible: str = "", wait: Optional[int] = None,
                 **more: Any) -> None:
        super().__init__(what, is_)
        self.status, self.wait = status, wait
        self.error = {"what": what, "is": is_, "possible": possible, **more}

    def response(self) -> JSONResponse:
        headers = {} if self.wait is None else {"Retry-After": str(self.wait)}
        return JSONResponse({"error": self.error}, self.status, headers)


def of_user_error(error: UserError, status: int = 422) -> Refusal:
    """The refusal for an input that cannot be used."""
    fields = parts(error)
    return Refusal(status, fields["what"], fields["is"], fields["possible"])


def gone(what: str, **more: Any) -> Refusal:
    """404: the thing never existed, or it was removed after its time."""
    return Refusal(404, what, "is not here, or not any more", "send it again", **more)
