"""Downloads a file over unreliable networks, and continues where an earlier attempt ended.

The bytes go to PART. Beside it, PART.json notes their address, version (ETag) and length. The caller gets the
file only if its size, its hash (as far as it is known) and its first bytes are right, so a page about a quota
or a login is never taken for weights.
"""
from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import stat
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any, Callable, NamedTuple, Optional
from urllib.parse import urlsplit

from ldm import files
from ldm.errors import UserError
from ldm.weights import foreign

TIMEOUT = 30                        # seconds without a byte
PAUSES = (1, 2, 4, 8)               # seconds before the second to the fifth attempt
STEP = 1 << 20                      # bytes that an attempt must add to count as progress
BLOCK = 1 << 16
RESERVE = 1 << 26                   # bytes of disk to leave free
AGAIN = (408, 425, 429, 500, 502, 503, 504)         # statuses that another attempt may change
NOBODY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED)
AGENT = "iidm-jittor (tools/get_weights.py)"
Progress = Callable[[int, Optional[int]], Any]      # (bytes here, bytes in all or None)


class Refused(Exception):
    """This address does not provide the file; the text says why."""


class Interrupted(Exception):
    """The connection ended too early; another attempt may help."""


class Expected(NamedTuple):
    """The known facts about a file. sha256: its hash, the first digits of it, or "". bytes: 0 if unknown."""
    sha256: str = ""
    bytes: int = 0

    def fault(self, path: Path) -> str:
        """The fault of the file at `path`; "" if none is known."""
        size = path.stat().st_size
        if self.bytes and size != self.bytes:
            return f"has {size:,} bytes instead of {self.bytes:,}"
        if self.sha256 and not (found := files.sha256(path, 64)).startswith(self.sha256):
            return f"has the sha256 {found[:12]}... instead of {self.sha256[:12]}..."
        return ""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects on the web, but never from https to http."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if req.type == "https" and not newurl.startswith("https://"):
            raise Refused("leads to an address without encryption")
        if not newurl.startswith(("http://", "https://")):
            raise Refused(f"leads to an address that is not on the web ({newurl[:40]})")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(urls: list[str], part: Path, expected: Expected, subject: str, remedy: str,
             progress: Progress = lambda have, total: None) -> str:
    """Fill the file `part` from the first of `urls` that gives what is `expected`. Returns that address.

    Bytes that an earlier call left in `part` are kept if they are of the same file. subject, remedy: of the
    UserError if no address gives the file, or if it cannot be written (then the bytes so far are kept).
    """
    reasons = []
    for url in urls:
        try:
            _Download(url, part, expected, progress).run()
            return url
        except Refused as e:
            reasons.append(f"{urlsplit(url).hostname} {e}")
    raise UserError(subject, "cannot be downloaded: " + ", ".join(dict.fromkeys(reasons)), remedy)


def forget(part: Path) -> None:
    """Remove the bytes of an unfinished or a used download."""
    for path in (part, _notes(part)):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _notes(part: Path) -> Path:
    return part.with_name(part.name + ".json")


class _Download:
    """The download from one address."""

    def __init__(self, url: str, part: Path, expected: Expected, progress: Progress) -> None:
        self.url, self.part, self.expected, self.progress = url, part, expected, progress
        self.opener = urllib.request.build_opener(_Redirects)
        self.pieces = 0                     # statuses of responses with the file or a part of it

    def run(self) -> None:
        """Refused if the address does not give what is expected."""
        self.attempts()
        fault = self.expected.fault(self.part)
        if fault and self.pieces > 1:       # these may be parts of two versions: download it again as a whole
            forget(self.part)
            self.attempts()
            fault = self.expected.fault(self.part)
        if fault:
            forget(self.part)
            raise Refused(f"gives a file that {fault}")

    def attempts(self) -> None:
        """Attempts with growing pauses, until one reaches the end; progress starts the count again."""
        failed, most, self.pieces = 0, self.size(), int(self.size() > 0)
        while True:
            try:
                return self.attempt()
            except Interrupted as e:
                if self.size() >= most + STEP:
                    failed, most = 0, self.size()
                if failed == len(PAUSES):
                    raise Refused(f"{e} ({failed + 1} attempts)") from e
                time.sleep(PAUSES[failed])
                failed += 1

    def size(self) -> int:
        """Bytes that are here. A link, which could lead anywhere, holds none of them."""
        try:
            found = os.lstat(self.part)
        except FileNotFoundError:
            return 0
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    # ---- one request ---------------------------------------------------------------------------------------

    def attempt(self) -> None:
        """One request. Returns when the whole file is here."""
        have, notes = self.size(), _read_notes(self.part)
        validator = self.validator(notes)
        if validator is None:
            have = 0
        elif have and have == notes.get("length"):
            return
        headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if validator:
                headers["If-Range"] = validator
        with self.opened(headers) as response:
            if response is None or not self.continues(response, have, notes):
                forget(self.part)
                raise Interrupted("gives other parts of the file than asked for")
            self.receive(response, have if response.status == 206 else 0)

    def validator(self, notes: dict[str, Any]) -> Optional[str]:
        """The ETag or date that proves that the server still has the file whose first bytes are here. "" if
        the final hash check is enough; None if these bytes cannot be used."""
        if self.expected.sha256:
            return notes.get("validator", "") if notes.get("url") == self.url else ""
        return (notes.get("validator") or None) if notes.get("url") == self.url else None

    @contextlib.contextmanager
    def opened(self, headers: dict[str, str]):
        """The response to a request; None for status 416: the server's file is shorter than the bytes
        here."""
        request = urllib.request.Request(self.url, headers=headers)
        try:
            response = self.opener.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as e:
            with e:
                if e.code == 416 and "Range" in headers:
                    response = None
                elif e.code in AGAIN:
                    raise Interrupted(f"answers {e.code} ({e.reason})") from None
                else:
                    reason = " ".join(str(e.reason).split())
                    raise Refused(f"answers {e.code} ({reason[:80]})") from None
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise _network_fault(e) from None
        if response is None:
            yield None
            return
        with response:
            yield response

    def continues(self, response, have: int, notes: dict[str, Any]) -> bool:
        """Whether the response contains the whole file, or the rest after the `have` bytes that are here."""
        if response.status == 200:
            return True
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        same = _validator(response.headers) in ("", notes.get("validator", "")) or self.expected.sha256
        return bool(response.status == 206 and found and int(found[1]) == have and same
                    and (found[2] in ("*", str(notes.get("length"))) or notes.get("length") is None))

    def receive(self, response, have: int) -> None:
        """Append the response's bytes to the first `have` bytes."""
        headers = response.headers
        if headers.get("Content-Encoding", "identity") != "identity":
            raise Refused("sends the file compressed, which was not requested")
        length = headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        if self.expected.bytes and total and total != self.expected.bytes:
            raise Refused(f"gives a file of {total:,} bytes instead of {self.expected.bytes:,}")
        piece = _read(response, BLOCK, at_least=512)
        if total is not None and len(piece) < min(512, total - have):       # too short to detect the format
            raise Interrupted(f"ended after {have + len(piece):,} of {total:,} bytes")
        if have == 0:
            _refuse_page(self.url, piece)
            self.begin(headers, total)
        self.check_space(total, have)
        self.pieces += 1
        with self.writing(), self.adding() as file:
            while piece:
                file.write(piece)
                have += len(piece)
                self.progress(have, total)
                if total is not None and have >= total:
                    break
                file.flush()
                piece = _read(response, BLOCK)
        if total is not None and have < total:
            raise Interrupted(f"ended after {have:,} of {total:,} bytes")

    def begin(self, headers, total: Optional[int]) -> None:
        """Delete the bytes that are here, and note the new response. Deleting comes first, so that notes
        never belong to older bytes."""
        with self.writing():
            self.part.parent.mkdir(parents=True, exist_ok=True)
            forget(self.part)
            self.adding().close()
        with files.replacing(_notes(self.part)) as temporary:
            temporary.write_text(json.dumps({"url": self.url, "validator": _validator(headers),
                                             "length": total}))

    def adding(self) -> IO[bytes]:
        """The file of what has come, to add to it."""
        return os.fdopen(files.open_beside(self.part, os.O_WRONLY | os.O_APPEND), "ab")

    def check_space(self, total: Optional[int], have: int) -> None:
        free = shutil.disk_usage(self.part.parent).free
        if total is not None and total - have + RESERVE > free:
            raise UserError(self.part.parent, f"has {free / 1e9:.2g} GB free, and {(total - have) / 1e9:.2g} "
                            "GB are to come", "free some space")

    @contextlib.contextmanager
    def writing(self):
        """Turn errors of the disk into UserErrors; errors of the network are handled elsewhere."""
        try:
            yield
        except OSError as e:
            raise UserError(self.part, f"cannot be written ({e.strerror or e})",
                            "free some space, then the same command continues") from None


def _read(response, size: int, at_least: int = 1) -> bytes:
    """Up to `size` bytes, at least `at_least` unless the file ends. Interrupted if the network fails."""
    data = b""
    try:
        while len(data) < at_least and (piece := response.read(size - len(data))):
            data += piece
    except http.client.IncompleteRead as e:
        raise Interrupted("ended too early") from e
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise Interrupted(_reason(e)) from None
    return data


def _network_fault(error: Exception) -> Exception:
    """Interrupted if another attempt can help, else Refused."""
    cause: Any = getattr(error, "reason", error)
    if isinstance(cause, socket.gaierror):
        return Refused("is not found (no network, or no such host)")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Refused(f"has a certificate that is not valid ({cause.verify_message})")
    if isinstance(cause, OSError) and cause.errno in NOBODY:
        return Refused(f"cannot be reached ({cause.strerror})")
    if isinstance(cause, (ValueError, http.client.InvalidURL)):
        return Refused(f"cannot be used ({_reason(cause)})")
    return Interrupted(_reason(cause))


def _reason(error) -> str:
    if isinstance(error, (TimeoutError, socket.timeout)):
        return f"sends nothing for {TIMEOUT} seconds"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return "breaks off (" + " ".join(str(text).split())[:100] + ")"


def _validator(headers) -> str:
    """A strong ETag or the date of the last change; "" if the server names neither."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _read_notes(part: Path) -> dict[str, Any]:
    try:
        with files.open_regular(_notes(part)) as file:
            notes = json.loads(file.read(1 << 16))
    except (UserError, OSError, ValueError, RecursionError):
        return {}
    return notes if isinstance(notes, dict) else {}


PAGES = ((r"quota|too many users", "a page that says that its download quota is used up; wait a day"),
         (r"accounts\.google\.com|sign in|log ?in", "a page that asks for a sign-in"),
         (r"virus", "a page that asks for a confirmation"),
         (r"not found|404", "a page that says that the file is not there"))


def _refuse_page(url: str, head: bytes) -> None:
    """Refused unless `head`, the first bytes, belong to weights or to a zip file."""
    if not head:
        raise Refused("gives an empty file")
    try:
        foreign.refuse_other_beginning(url, head)
    except UserError as e:
        if what := page(head):
            raise Refused(f"answers with {what}") from None
        raise Refused(f"gives a file that {e.args[1]}") from None


def page(head: bytes) -> str:
    """What the web page that begins with `head` says; "" if it is none."""
    if not foreign.is_page(head):
        return ""
    text = head.decode("utf-8", "replace").lower()
    return next((what for words, what in PAGES if re.search(words, text)), "a web page")
