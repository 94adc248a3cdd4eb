"""Connections before anything is asked: uvicorn would wait for ever for the header of a request."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from omnisky.serve.house import Limits
from omnisky.serve.problem import told


def within(limits: Limits) -> type[H11Protocol]:
    """HTTP for uvicorn, `uvicorn.run(app, http=within(limits))`: whose header takes longer is told 408 and let go.

    A header has at most 16 KiB, h11's limit. Between requests uvicorn's `timeout_keep_alive` holds.
    """
    return type("Door", (_Door,), {"seconds": limits.header_seconds})


class _Door(H11Protocol):
    seconds: float
    _alarm: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._calm()

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
