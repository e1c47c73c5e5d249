"""The camera's picture in a browser: a page of our own on this machine, with the standard library and PIL."""

from __future__ import annotations

import io
import json
import socket
import sys
import threading
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image as Picture

from rlco.demos.teleop.keys import EVENT_HELP, MOTION_HELP
from rlco.demos.teleop.view import Image, Status

HOST = "127.0.0.1"
DEFAULT_PORT = 8765
_JPEG_QUALITY = 90
_BOUNDARY = "frame"
_WAIT_S = 0.5
"""How soon an open stream notices that the view is closed."""
_SILENCE_S = 1.0
"""A browser that neither asks nor takes anything for this long is let go."""
_MESSAGES = 4


class WebView:
    """Serves the latest picture and status on 127.0.0.1, until ``close``; ``port`` 0 takes any free one.

    Raises ``ValueError`` in one line if the port is taken.
    """

    def __init__(self, port: int = DEFAULT_PORT) -> None:
        self._feed = _Feed()
        try:
            self._server = _Server((HOST, port), self._feed)
        except (OSError, OverflowError) as error:
            raise ValueError(
                f"Port {port} cannot be used ({error}). Choose another one with --port, or --view none."
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="teleop-view", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where to look."""
        return f"http://{HOST}:{self._server.server_address[1]}/"

    def show(self, image: Image, status: Status) -> None:
        """Keep the picture for whoever looks; browsers are served by threads of their own."""
        self._feed.put(image.copy(), status)

    def say(self, text: str) -> None:
        """Show the last few messages on the page."""
        self._feed.say(text)

    def close(self) -> None:
        """End the streams, the threads and the server."""
        self._feed.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Feed:
    """The latest picture and status, shared with the threads that serve browsers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._image: Image = np.zeros((96, 96, 3), dtype=np.uint8)
        self._number = 0
        self._status: dict[str, Any] = {}
        self._messages: list[str] = []
        self._is_closed = False

    def put(self, image: Image, status: Status) -> None:
        with self._changed:
            self._image, self._number = image, self._number + 1
            self._status = {"line": status.line(), **asdict(status)}
            self._changed.notify_all()

    def say(self, text: str) -> None:
        with self._changed:
            self._messages = [*self._messages, text][-_MESSAGES:]

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def frame(self) -> bytes:
        """Return the latest picture as JPEG."""
        with self._changed:
            image = self._image
        return _jpeg(image)

    def status(self) -> dict[str, Any]:
        with self._changed:
            return {**self._status, "messages": self._messages}

    def next_frame(self, seen: int) -> tuple[int, bytes] | None:
        """Return the number and JPEG of a picture after number ``seen``, or None once the view is closed."""
        with self._changed:
            while not self._is_closed and self._number == seen:
                self._changed.wait(_WAIT_S)
            if self._is_closed:
                return None
            number, image = self._number, self._image
        return number, _jpeg(image)


class _Server(ThreadingHTTPServer):
    """Knows the feed; waits for its threads when it closes."""

    daemon_threads = False
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], feed: _Feed) -> None:
        self.feed = feed
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  (the base class's signature)
        """A browser that goes away is no error; anything else is printed as usual."""
        if not isinstance(sys.exception(), ConnectionError | socket.timeout):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers one browser."""

    timeout = _SILENCE_S
    server: _Server

    def do_GET(self) -> None:
        pages = {
            "/": lambda: ("text/html; charset=utf-8", _PAGE.encode()),
            "/frame.jpg": lambda: ("image/jpeg", self.server.feed.frame()),
            "/status.json": lambda: ("application/json", json.dumps(self.server.feed.status()).encode()),
        }
        path = self.path.split("?")[0]
        if path == "/stream.mjpg":
            self._stream()
        elif path in pages:
            self._answer(*pages[path]())
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: ANN401  (the base class's signature)
        """Say nothing: the terminal belongs to the status line."""

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        """Send every new picture as a part of one endless answer."""
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        number = -1
        while (found := self.server.feed.next_frame(number)) is not None:
            number, jpeg = found
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")


def _jpeg(image: Image) -> bytes:
    buffer = io.BytesIO()
    Picture.fromarray(image).save(buffer, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


_PAGE = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>rlco teleop</title>
<link rel="icon" href="data:,">
<style>
 body {{ margin: 0; padding: 1rem; background: #16181d; color: #e8e8e8; font: 16px/1.5 system-ui, sans-serif; }}
 main {{ display: flex; flex-wrap: wrap; gap: 1.5rem; }}
 img {{ width: min(80vmin, 100%); aspect-ratio: 1; image-rendering: pixelated; background: #000; }}
 section {{ flex: 1; min-width: 20rem; }}
 h1 {{ font-size: 1.4rem; margin: 0 0 .5rem; }}
 #line {{ font-variant-numeric: tabular-nums; }}
 #messages {{ color: #ffd479; min-height: 6em; white-space: pre-wrap; }}
 pre {{ color: #a0a8b8; font-size: .8rem; white-space: pre-wrap; }}
</style></head><body><main>
<img src="/stream.mjpg" alt="what the camera sees">
<section><h1 id="instruction"></h1><p id="line">waiting</p><p id="messages"></p>
<p>Keys work in the terminal, not on this page.</p><pre>{MOTION_HELP}
{EVENT_HELP}</pre></section>
</main><script>
const put = (id, text) => {{ document.getElementById(id).textContent = text; }};
async function update() {{
  try {{
    const status = await (await fetch("/status.json")).json();
    put("instruction", status.instruction ?? "");
    put("line", status.line ?? "waiting");
    put("messages", status.messages.join("\\n"));
  }} catch {{ put("line", "the session is over"); return; }}
  setTimeout(update, 200);
}}
update();
</script></body></html>
"""
