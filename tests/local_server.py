"""An HTTP server on this machine that sends a file well, or badly in one of the ways servers do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """Files and how each is sent."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    manners: dict[str, str] = field(default_factory=dict)
    """Path -> one of the `_Handler.send_*` methods; `send_well` by default."""
    ranges: list[str | None] = field(default_factory=list)
    """The Range header of each request, in order."""
    version: str = '"1"'
    """ETag of everything; empty: none is sent."""

    def add(self, name: str, data: bytes, manner: str = "well") -> str:
        """Puts a file up and returns its URL."""
        self.files["/" + name] = data
        self.manners["/" + name] = manner
        return f"{self.address}/{name}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        self.site.ranges.append(self.headers.get("Range"))
        data = self.site.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        getattr(self, "send_" + self.site.manners[self.path])(data)

    def send_well(self, data: bytes, sent: int | None = None) -> None:
        """The file, or the rest of it where the client has the beginning of the same."""
        start, is_same = 0, self.headers.get("If-Range", self.site.version) == self.site.version
        if self.headers.get("Range") and is_same:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(data):
            self._head(416, 0)
            return
        extra = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self._head(206 if start else 200, len(data) - start, extra)
        self._body(data[start : None if sent is None else start + sent])

    def send_cut_in_pieces(self, data: bytes) -> None:
        """Closes the connection after a third of the file, each time."""
        self.send_well(data, sent=len(data) // 3 + 1)

    def send_whole_always(self, data: bytes) -> None:
        """Knows no Range; the first answer breaks off."""
        self._head(200, len(data))
        is_first = len(self.site.ranges) == 1
        self._body(data[: len(data) // 2] if is_first else data)

    def send_short_always(self, data: bytes) -> None:
        """Promises more than there is, and knows no Range."""
        self._head(200, len(data) + 1000)
        self._body(data)

    def send_wrong_piece(self, data: bytes) -> None:
        """Breaks off, then goes on from another byte than asked; the whole on the third request."""
        if len(self.site.ranges) == 1:
            self.send_well(data, sent=1000)
        elif self.headers.get("Range"):
            self._head(206, 5, {"Content-Range": f"bytes 0-4/{len(data)}"})
            self._body(data[:5])
        else:
            self.send_well(data)

    def send_busy_first(self, data: bytes) -> None:
        """503 to the first request."""
        if len(self.site.ranges) == 1:
            self.send_error(503)
        else:
            self.send_well(data)

    def send_page(self, data: bytes) -> None:
        """Status 200, and a web page."""
        self._head(200, len(data), {"Content-Type": "text/html; charset=utf-8"})
        self._body(data)

    def send_unmeasured(self, data: bytes) -> None:
        """In chunks, without a length."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (data[:1000], data[1000:]):
            self._body(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self._body(b"0\r\n\r\n")

    def send_unmeasured_cut(self, data: bytes) -> None:
        """In chunks, the last of which breaks off."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._body(f"{len(data):x}\r\n".encode() + data[:1000])
        self.close_connection = True

    def send_squeezed(self, data: bytes) -> None:
        """Claims compression nobody asked for."""
        self._head(200, len(data), {"Content-Encoding": "gzip"})
        self._body(data)

    def _head(self, status: int, length: int, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        if self.site.version:
            headers["ETag"] = self.site.version
        for name, value in (headers | (extra or {})).items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, data: bytes) -> None:
        self.wfile.write(data)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Keeps test output clean."""


@contextmanager
def serving() -> Iterator[Site]:
    """A running server; set `no_proxy` where a proxy may be configured."""
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    site.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
