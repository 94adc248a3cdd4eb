"""Who may enter, with how much, and how slowly: looked at before a route sees anything."""

from __future__ import annotations

import asyncio
import time
from base64 import b64decode
from hmac import compare_digest

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from omnisky.errors import Busy, NotAllowed, TooMuch
from omnisky.serve.house import Limits
from omnisky.serve.problem import problem, told

_READING, _OURS = ("GET", "HEAD", "OPTIONS"), ("none", "same-origin")


class Gate:
    """ASGI: the key, then the whole body within limits of size and time. Routes find it in memory.

    The key comes as `Authorization: Bearer KEY`, or by HTTP Basic with any name, which browsers ask their user for.
    /health needs none. Browsers say which site asks: pages of others may not spend this machine's time.
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, api_key: str = "") -> None:
        self.app, self.limits, self.api_key = app, limits, api_key
        self.held = 0
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        key = headers.get("authorization", "").encode("latin-1")
        if self.api_key and scope["path"] != "/health" and not self._may(key):
            await problem(NotAllowed(want="the server's key", hint="Authorization: Bearer KEY"))(scope, receive, send)
            return
        if scope["method"] not in _READING and headers.get("sec-fetch-site", "none") not in _OURS:
            other = "saw a page of another site; want one of this server, or no browser"
            await told(403, "CrossSite", other)(scope, receive, send)
            return
        if headers.get("content-encoding", "identity") != "identity":
            saw = headers["content-encoding"]
            await told(415, "ContentEncoding", f"saw {saw}; want a body as it is")(scope, receive, send)
            return
        taken = _Taken(self, receive, headers.get("content-length", ""))
        try:
            if await taken.whole():
                await self._answer(scope, taken, send)
        except (TooMuch, Busy) as error:
            await problem(error)(scope, receive, send)
        except TimeoutError:
            slow = f"the body did not come within {self.limits.seconds:g} s"
            await told(408, "SlowBody", slow)(scope, receive, send)
        finally:
            self.held -= taken.size

    async def _answer(self, scope: Scope, taken: _Taken, send: Send) -> None:
        """Given up when the client leaves: what still waits is then never computed. Raises Busy."""
        if self.inside >= self.limits.inside:
            raise Busy(saw=f"{self.inside} requests", want=f"fewer than {self.limits.inside}", hint="ask again")
        self.inside += 1
        asked = asyncio.ensure_future(self.app(scope, taken.receive, taken.through(send)))
        left = asyncio.create_task(taken.left())
        try:
            await asyncio.wait((asked, left), return_when=asyncio.FIRST_COMPLETED)
            if not taken.answered:
                asked.cancel()
            await asyncio.wait((asked,))
        finally:
            self.inside -= 1
            for task in (asked, left):
                task.cancel()
        if not asked.cancelled():
            asked.result()

    def _may(self, said: bytes) -> bool:
        kind, _, word = said.partition(b" ")
        if kind.lower() == b"basic":
            try:
                word = b64decode(word, validate=True).partition(b":")[2]
            except ValueError:
                return False
        elif kind.lower() != b"bearer":
            return False
        return compare_digest(word, self.api_key.encode())


class _Taken:
    """A body that was taken in, and is counted for as long as it is worked on."""

    def __init__(self, gate: Gate, receive: Receive, length: str) -> None:
        self.gate, self.source, self.size = gate, receive, 0
        self.announced = int(length) if length.isdigit() else 0
        self.chunks: list[bytes] = []
        self.given = self.answered = False

    async def whole(self) -> bool:
        """Take it all; False if the client left. Raises TooMuch, Busy, TimeoutError."""
        self._demand(self.announced, self.announced)
        until = time.monotonic() + self.gate.limits.seconds
        more = True
        while more:
            message = await asyncio.wait_for(self.source(), max(until - time.monotonic(), 0.001))
            if message["type"] != "http.request":
                return False
            chunk = message.get("body", b"")
            self._demand(self.size + len(chunk), len(chunk))
            self.size += len(chunk)
            self.gate.held += len(chunk)
            self.chunks.append(chunk)
            more = message.get("more_body", False)
        return True

    async def receive(self) -> Message:
        if self.given:
            return await self.source()
        self.given = True
        body, self.chunks = b"".join(self.chunks), []
        return {"type": "http.request", "body": body, "more_body": False}

    async def left(self) -> None:
        """Until the client is gone, or has all."""
        while (await self.source())["type"] == "http.request":
            pass

    def through(self, send: Send) -> Send:
        """Notes when the answer is whole."""

        async def sent(message: Message) -> None:
            await send(message)
            self.answered = message["type"] == "http.response.body" and not message.get("more_body", False)

        return sent

    def _demand(self, size: int, more: int) -> None:
        limits = self.gate.limits
        if size > limits.body_bytes:
            want = f"at most {limits.body_bytes:,}"
            raise TooMuch("the body", saw=f"{size:,} bytes", want=want, hint="fewer objects")
        if self.gate.held + more > limits.held_bytes:
            raise Busy("too much at once", saw=f"{self.gate.held:,} bytes of others", want="less", hint="ask again")
