"""The page's own files, read and packed once, at the start. A browser asks for each of them again each time,
and is sent what changed (ETag)."""
from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Mapping

from starlette.exceptions import HTTPException
from starlette.responses import Response

TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}


class File:
    """plain, packed: its bytes, as they are and by gzip."""

    def __init__(self, path: Path) -> None:
        self.plain = path.read_bytes()
        self.packed, self.kind = gzip.compress(self.plain, mtime=0), TYPES[path.suffix]
        self.tag = f'"{hashlib.sha256(self.plain).hexdigest()[:16]}"'

    def response(self, headers: Mapping[str, str]) -> Response:
        """headers: of the request."""
        ours = {"ETag": self.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if self.tag in headers.get("if-none-match", ""):
            return Response(status_code=304, headers=ours)
        if "gzip" in headers.get("accept-encoding", ""):
            return Response(self.packed, media_type=self.kind, headers={**ours, "Content-Encoding": "gzip"})
        return Response(self.plain, media_type=self.kind, headers=ours)


class Files:
    """All files of a folder, by name. No path is ever made of a request's."""

    def __init__(self, folder: Path) -> None:
        self.files = {path.name: File(path) for path in folder.iterdir()}

    def response(self, name: str, headers: Mapping[str, str]) -> Response:
        """The file, or HTTPException 404."""
        if name not in self.files:
            raise HTTPException(404)
        return self.files[name].response(headers)
