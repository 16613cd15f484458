"""A web server on this machine that serves one file and misbehaves as told.

As a script it downloads: `python unreliable_server.py URL FOLDER [BYTES]`, for the tests that kill it or
limit the size of its files.
"""
import http.server
import re
import resource
import socket
import sys
import threading
import time
from pathlib import Path

from ldm.errors import UserError
from ldm.weights import download

LOGIN = b"<!DOCTYPE html><html><title>Sign in</title>https://accounts.google.com/ServiceLogin</html>"
QUOTA = b"<!DOCTYPE html><html>Too many users have viewed or downloaded this file recently</html>"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        faults = server.faults.pop(0) if server.faults else server.always
        if "redirect" in faults:
            return self.answer(302, b"", Location=faults["redirect"])
        if "page" in faults:
            return self.answer(200, faults["page"], **{"Content-Type": "application/octet-stream"})
        if "status" in faults:
            return self.answer(faults["status"], b"<html>no</html>")
        self.serve(faults)

    def answer(self, status, body, length=None, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", len(body) if length is None else length)
        self.end_headers()
        self.wfile.write(body)

    def serve(self, faults):
        data, first, status, headers = self.server.data, 0, 200, {}
        etag = faults.get("etag", self.server.etag)
        if etag:
            headers["ETag"] = etag
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range", etag)
        if asked and "ignore range" not in faults and (condition == etag or "ignore condition" in faults):
            first, status = int(asked[1]), 206
            if first >= len(data):
                return self.answer(416, b"", **{"Content-Range": f"bytes */{len(data)}"})
            shown = first + faults.get("shift", 0)
            headers["Content-Range"] = f"bytes {shown}-{len(data) - 1}/{len(data)}"
        body = data[first:]
        length = len(body) + faults.get("lie", 0)
        cut = faults.get("cut", len(body))
        if faults.get("no length"):
            self.send_response(status)
            self.end_headers()
            self.close_connection = True
        else:
            self.answer(status, b"", length, **headers)
        for start in range(0, cut, 1 << 14):
            self.wfile.write(body[start:min(start + (1 << 14), cut)])
            self.wfile.flush()
            time.sleep(faults.get("pause", 0))
        if cut < length:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, data, etag='"one"'):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.etag, self.faults, self.always, self.requests = data, etag, [], {}, []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, *arguments):             # a client that was killed
        pass

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file"


def main(url, folder, limit=None):
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    try:
        download.download([url], Path(folder) / ".file.part", download.Expected(), "file", "try again")
    except UserError as e:
        sys.exit(f"error: {e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
