"""Who waits and who is answered together: one thread has the models, and takes what is there.

No timer: an idle model starts at once on a single request, a busy one finds the next batch waiting. Requests of one
key (the same model, asked for arrays of the same shape) are run as one batch, oldest key first; each gets its own rows.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from omnisky.errors import Busy, Failed, OmniskyError, ServiceError
from omnisky.observe.layout import arrays_of
from omnisky.observe.types import Observation, concatenate

log = logging.getLogger("omnisky.serve")


@runtime_checkable
class Rows(Protocol):
    """One answer an object: Embedding, Posterior, Answers, Observation."""

    def take(self, index: Any) -> Any:
        """The chosen objects."""


Work = Callable[[Observation], Rows]
Heard = Callable[[Hashable, int, float], None]
"""(key, objects of a batch, seconds it took)"""


@dataclass(frozen=True, eq=False)
class _Job:
    key: Hashable
    seen: Observation
    work: Work
    answer: Future = field(default_factory=Future)
    given_up: threading.Event = field(default_factory=threading.Event)


class _GivenUp(Exception):
    """Nobody waits for what is being computed."""


class Desk:
    """Where requests wait. `waiting` is the most that may, of `held_bytes` together; a batch has `batch` objects, or
    one request's.
    """

    def __init__(
        self, *, waiting: int, batch: int, seconds: float, held_bytes: int, heard: Heard | None = None
    ) -> None:
        self.most, self.batch, self.seconds, self.heard = waiting, batch, seconds, heard
        self.most_bytes, self._held = held_bytes, 0
        self._jobs: list[_Job] = []
        self._now: Sequence[_Job] = ()
        self._bell, self._closed = threading.Condition(), False
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._jobs)

    async def ask(self, key: Hashable, seen: Observation, work: Work) -> Any:
        """What `work` says of these objects; those of other requests with the same key may be along.

        Raises Busy (too many wait), ServiceError (not in time), Failed (a bug, or no memory), and what `work` raises.
        """
        job, size = _Job(key, seen, work), _bytes(seen)
        with self._bell:
            if self._closed:
                raise ServiceError("the server is going down", hint="another server, or later")
            if len(self._jobs) >= self.most:
                raise Busy(saw=f"{len(self._jobs)} requests waiting", want=f"fewer than {self.most}", hint="ask again")
            if self._held and self._held + size > self.most_bytes:
                raise Busy(saw=f"{self._held:,} bytes waiting", want=f"{self.most_bytes:,} at most", hint="ask again")
            self._held += size
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="omnisky-models", daemon=True)
                self._thread.start()
            self._bell.notify()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job.answer), self.seconds)
        except TimeoutError:
            raise ServiceError(
                f"no answer within {self.seconds:g} s", saw=f"{len(seen)} objects", hint="fewer objects, or later"
            ) from None
        finally:  # also when nobody waits for it any more: then it is not computed, and takes nobody's place
            job.answer.cancel()
            job.given_up.set()
            with self._bell:
                self._held -= size
                self._jobs = [one for one in self._jobs if one is not job]

    def close(self) -> None:
        """Whoever waits is answered first."""
        with self._bell:
            self._closed = True
            self._bell.notify()
        if self._thread is not None:
            self._thread.join()

    # --- in the thread of the models ---

    def go_on(self, *_: object) -> None:
        """For long work to call between its steps: it ends here when nobody waits for it any more."""
        if self._now and all(job.given_up.is_set() for job in self._now):
            raise _GivenUp

    def _run(self) -> None:
        while jobs := self._next():
            going = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            if going:
                self._serve(going)

    def _next(self) -> list[_Job]:
        """The oldest request and all that may go with it; empty when closed and done."""
        with self._bell:
            self._bell.wait_for(lambda: bool(self._jobs) or self._closed)
            taken: list[_Job] = []
            rows = 0
            for job in self._jobs:
                if not taken or (job.key == taken[0].key and rows + len(job.seen) <= self.batch):
                    taken.append(job)
                    rows += len(job.seen)
            self._jobs = [job for job in self._jobs if job not in taken]
            return taken

    def _serve(self, jobs: Sequence[_Job]) -> None:
        start, rows = time.perf_counter(), sum(len(job.seen) for job in jobs)
        self._now = jobs
        try:
            seen = jobs[0].seen if len(jobs) == 1 else concatenate([job.seen for job in jobs])
            answer = jobs[0].work(seen)
        except _GivenUp:
            return
        except Exception as error:
            if len(jobs) > 1:  # one may have spoilt it for all: each by itself
                for job in jobs:
                    self._serve([job])
            else:
                jobs[0].answer.set_exception(_said(error))
            return
        if self.heard is not None:
            self.heard(jobs[0].key, rows, time.perf_counter() - start)
        if len(jobs) == 1:
            jobs[0].answer.set_result(answer)
            return
        first = 0
        for job in jobs:
            job.answer.set_result(answer.take(slice(first, first + len(job.seen))))
            first += len(job.seen)


def _bytes(seen: Observation) -> int:
    return sum(one.nbytes for part in seen.parts.values() for one in arrays_of(part).values())


def _said(error: Exception) -> OmniskyError:
    if isinstance(error, OmniskyError):
        return error
    log.error("a model broke down", exc_info=error)
    return Failed("the model broke down", saw=f"{type(error).__name__}: {error}"[:300], hint="fewer or other objects")
