"""What the server has done, in numbers that Prometheus reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
_OBJECTS = (1, 2, 4, 8, 16, 32, 64, 128)


class Meters:
    """Of one server; nothing is kept globally."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self.registry = here = CollectorRegistry()
        self.requests = Counter("omnisky_requests", "requests answered", ("route", "status"), registry=here)
        said = "from the first byte to the answer"
        self.seconds = Histogram("omnisky_request_seconds", said, ("route",), buckets=_SECONDS, registry=here)
        said = "objects of a batch"
        self.batches = Histogram("omnisky_batch_objects", said, ("work",), buckets=_OBJECTS, registry=here)
        said = "of a batch in the model"
        self.working = Histogram("omnisky_batch_seconds", said, ("work",), buckets=_SECONDS, registry=here)
        Gauge("omnisky_waiting", "requests that wait for the models", registry=here).set_function(waiting)

    def batch(self, key: Hashable, objects: int, seconds: float) -> None:
        """`batch.Heard`: the key begins with the kind of work."""
        work = str(key[0]) if isinstance(key, tuple) else ""
        self.batches.labels(work).observe(objects)
        self.working.labels(work).observe(seconds)

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request that was answered."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class Measured:
    """ASGI: every request that is answered."""

    def __init__(self, app: ASGIApp, *, meters: Meters) -> None:
        self.app, self.meters = app, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()

        async def sent(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self.meters.request(route, message["status"], time.perf_counter() - start)

        await self.app(scope, receive, sent if scope["type"] == "http" else send)
