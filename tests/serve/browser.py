"""A headless Chromium over the DevTools protocol: no driver to install, a WebSocket of a hundred lines."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Socket:
    """A WebSocket client (RFC 6455) for text messages on this machine."""

    def __init__(self, address: str, seconds: float) -> None:
        host, path = address.removeprefix("ws://").split("/", 1)
        name, port = host.split(":")
        self.wire = socket.create_connection((name, int(port)), timeout=seconds)
        key = base64.b64encode(os.urandom(16)).decode()
        words = f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.wire.sendall(f"{words}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.wire.recv(4096)
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert b" 101 " in head.splitlines()[0], head

    def send(self, text: str) -> None:
        data, veil = text.encode(), os.urandom(4)
        size = len(data)
        head = b"\x81" + (
            bytes([0x80 | size])
            if size < 126
            else b"\xfe" + struct.pack(">H", size)
            if size < 65536
            else b"\xff" + struct.pack(">Q", size)
        )
        self.wire.sendall(head + veil + bytes(byte ^ veil[i % 4] for i, byte in enumerate(data)))

    def _take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            more = self.wire.recv(1 << 16)
            if not more:
                raise ConnectionError("the browser hung up")
            self.buffer += more
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def receive(self) -> str:
        whole = b""
        while True:
            first, second = self._take(2)
            size = second & 0x7F
            if size == 126:
                size = struct.unpack(">H", self._take(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self._take(8))[0]
            whole += self._take(size)
            if first & 0x80:
                return whole.decode()


class Page:
    """One tab. What it asked the network for is in `asked`, what went wrong in `complaints`."""

    def __init__(self, address: str, seconds: float = 30) -> None:
        self.socket, self.count, self.seconds = Socket(address, 120), 0, seconds
        self.asked: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        self.count += 1
        mine = self.count
        self.socket.send(json.dumps({"id": mine, "method": method, "params": params}))
        while True:
            told = json.loads(self.socket.receive())
            if told.get("id") == mine:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['error']}")
                return told.get("result", {})
            self._hear(told)

    def _hear(self, told: dict[str, Any]) -> None:
        params = told.get("params", {})
        if told["method"] == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif told["method"] == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif told["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def size(self, width: int, height: int, scale: float = 1) -> None:
        screen = {"screenWidth": width, "screenHeight": height, "mobile": False}  # headless has one of 800 × 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, **screen)

    def go(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def run(self, code: str) -> Any:
        """The value of an expression; promises are waited for."""
        told = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            details = told["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return told["result"].get("value")

    def until(self, code: str, seconds: float | None = None) -> Any:
        """Wait for an expression to be true, and return it."""
        end = time.monotonic() + (seconds or self.seconds)
        while time.monotonic() < end:
            if value := self.run(code):
                return value
            time.sleep(0.05)
        raise TimeoutError(f"{code}; complaints: {self.complaints}; {self.run('document.body.innerText')[:500]}")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        pressed = {"button": "left", "clickCount": 1} if kind != "mouseMoved" else {}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **(pressed | more))

    def click(self, x: float, y: float) -> None:
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def drag(self, path: list[tuple[float, float]]) -> None:
        self.mouse("mouseMoved", *path[0])
        self.mouse("mousePressed", *path[0])
        for place in path[1:]:
            self.mouse("mouseMoved", *place, button="left", buttons=1)
            time.sleep(0.015)
        self.mouse("mouseReleased", *path[-1])

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        more = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        codes = {"Enter": 13, "Escape": 27, "ArrowRight": 39, "ArrowLeft": 37}
        for kind in ("keyDown", "keyUp"):
            code = codes.get(key, ord(key[0].upper()))
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)

    def shoot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browser() -> Iterator[Page]:
    """A tab of a browser of its own, WebGL drawn in software."""
    assert CHROMIUM
    with TemporaryDirectory(prefix="omnisky-chromium-", ignore_cleanup_errors=True) as profile:
        flags = ["--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        flags += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
        flags += ["--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        running = subprocess.Popen([CHROMIUM, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            note, end = Path(profile) / "DevToolsActivePort", time.monotonic() + 30
            while not (note.exists() and note.read_text().count("\n")):
                assert running.poll() is None and time.monotonic() < end, "Chromium does not start"
                time.sleep(0.05)
            port = note.read_text().splitlines()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
                tab = next(one for one in json.load(answer) if one["type"] == "page")
            page = Page(tab["webSocketDebuggerUrl"])
            with page.socket.wire:
                yield page
        finally:
            running.terminate()
            running.wait(10)
