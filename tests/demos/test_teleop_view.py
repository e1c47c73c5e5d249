"""What the person sees: a page on this machine, and one line in the terminal."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from rlco.demos.teleop.view import Status, Terminal, Views
from rlco.demos.teleop.web import HOST, WebView

STATUS = Status(
    phase="recording",
    kept=2,
    wanted=20,
    steps=7,
    achieved_hz=4.98,
    worst_s=0.21,
    late=1,
    is_open=False,
    is_solved=False,
    instruction="push the <pink> cube",
)


def picture(value: int) -> np.ndarray:
    return np.full((96, 96, 3), value, dtype=np.uint8)


@pytest.fixture
def web() -> Iterator[WebView]:
    view = WebView(0)
    yield view
    if any(thread.name == "teleop-view" for thread in threading.enumerate()):
        view.close()


def ask(view: WebView, path: str) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(HOST, int(view.url.rsplit(":")[-1].strip("/")), timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    found = answer.status, answer.getheader("Content-Type", ""), answer.read()
    connection.close()
    return found


def brightness(jpeg: bytes) -> float:
    image = np.asarray(Picture.open(io.BytesIO(jpeg)))
    assert image.shape == (96, 96, 3)
    return float(image.mean())


def test_the_page_names_its_pictures_and_the_keys(web: WebView) -> None:
    status, kind, body = ask(web, "/")
    assert status == 200
    assert kind.startswith("text/html")
    for part in ("/stream.mjpg", "/status.json", "space gripper", "page up"):
        assert part in body.decode()
    assert ask(web, "/etc/passwd")[0] == 404


def test_the_latest_picture_and_status_are_served(web: WebView) -> None:
    for value in (10, 200):
        web.show(picture(value), STATUS)
        web.say(f"message {value}")
    assert brightness(ask(web, "/frame.jpg")[2]) == pytest.approx(200, abs=2)
    found = json.loads(ask(web, "/status.json?x=1")[2])
    assert found["line"] == STATUS.line()
    assert found["instruction"] == "push the <pink> cube"
    assert found["messages"] == ["message 10", "message 200"]


def test_a_stream_brings_every_new_picture_and_ends_with_the_view(web: WebView) -> None:
    connection = http.client.HTTPConnection(HOST, int(web.url.rsplit(":")[-1].strip("/")), timeout=10)
    connection.request("GET", "/stream.mjpg")
    answer = connection.getresponse()
    assert "multipart/x-mixed-replace" in answer.getheader("Content-Type", "")
    part(answer)  # the picture before the first one
    for value in (30, 90, 150):
        web.show(picture(value), STATUS)
        assert brightness(part(answer)) == pytest.approx(value, abs=2)
    web.close()
    assert answer.read() == b""
    assert not [thread for thread in threading.enumerate() if "process_request" in thread.name]


def part(answer: Any) -> bytes:  # noqa: ANN401
    """Return the next picture of a stream."""
    assert answer.readline() == b"--frame\r\n"
    assert answer.readline() == b"Content-Type: image/jpeg\r\n"
    length = int(answer.readline().split(b":")[1])
    assert answer.readline() == b"\r\n"
    found = answer.read(length)
    assert answer.readline() == b"\r\n"
    return found


def test_a_picture_that_is_overwritten_later_is_shown_as_it_was(web: WebView) -> None:
    image = picture(50)
    web.show(image, STATUS)
    image[:] = 250
    assert brightness(ask(web, "/frame.jpg")[2]) == pytest.approx(50, abs=2)


def test_a_browser_that_leaves_or_says_nothing_disturbs_nobody(web: WebView, capfd: pytest.CaptureFixture[str]) -> None:
    address = (HOST, int(web.url.rsplit(":")[-1].strip("/")))
    silent = socket.create_connection(address)
    leaving = socket.create_connection(address)
    leaving.sendall(b"GET /stream.mjpg HTTP/1.0\r\n\r\n")
    assert leaving.recv(10)
    leaving.close()
    for value in range(20):
        web.show(picture(value), STATUS)
    assert ask(web, "/")[0] == 200
    web.close()
    silent.close()
    assert capfd.readouterr().err == ""


def test_the_page_is_for_this_machine_alone(web: WebView) -> None:
    assert web.url.startswith("http://127.0.0.1:")


def test_a_taken_port_is_one_line(web: WebView) -> None:
    port = int(web.url.rsplit(":")[-1].strip("/"))
    with pytest.raises(ValueError, match=rf"Port {port} cannot be used .*--port"):
        WebView(port)
    with pytest.raises(ValueError, match="Port 70000 cannot be used"):
        WebView(70000)


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_terminal_keeps_one_status_line_with_messages_above_it() -> None:
    file = Tty()
    views = Views([Terminal(file)])
    views.show(picture(0), STATUS)
    views.say("kept")
    views.close()
    line = "[3/20] recording | step 7 4.98 Hz (worst step 0.21 s), late 1 | gripper closed | task solved: no"
    assert file.getvalue() == f"\r\x1b[K{line}\r\x1b[Kkept\n{line}\n"


def test_a_file_gets_messages_only() -> None:
    file = io.StringIO()
    terminal = Terminal(file)
    terminal.show(picture(0), STATUS)
    terminal.say("kept")
    terminal.close()
    assert file.getvalue() == "kept\n"
