"""Connections before anything is asked and while they are answered: uvicorn would wait for ever for the header of a
request, and for a client to take what it asked for."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from omnisky.serve.house import Limits
from omnisky.serve.problem import told

_LEAST = 1 << 15
"""bytes that a client must take within the time that there is"""


def within(limits: Limits) -> type[H11Protocol]:
    """HTTP for uvicorn, `uvicorn.run(app, http=within(limits))`: whose header takes longer is told 408 and let go, and
    so is who hardly takes an answer.

    A header has at most 16 KiB, h11's limit. Between requests uvicorn's `timeout_keep_alive` holds.
    """
    return type("Door", (_Door,), {"seconds": limits.header_seconds, "patience": limits.seconds})


class _Door(H11Protocol):
    seconds: float
    patience: float
    _alarm: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._calm()
        self._flowing()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._flowing()

    def _wait(self, size: int) -> None:
        self._stalled = self.loop.call_later(self.patience, self._slow, size)

    def _slow(self, before: int) -> None:
        size = self.transport.get_write_buffer_size()
        if before - size < _LEAST:
            self.transport.abort()  # to close would wait for the client
        else:
            self._wait(size)

    def _flowing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _watch(self) -> None:
        """Bytes that complete nothing do not wind the clock again."""
        if self.conn.their_state is not h11.IDLE:
            self._calm()
        elif self._alarm is None:
            self._alarm = self.loop.call_later(self.seconds, self._late)

    def _calm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _late(self) -> None:
        if self.transport.is_closing() or self.conn.our_state is not h11.IDLE:
            return
        answer = told(408, "SlowHeader", f"the header did not come within {self.seconds:g} s")
        for event in (
            h11.Response(status_code=408, headers=answer.raw_headers, reason=b"Request Timeout"),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
