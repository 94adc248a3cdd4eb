"""Ask a server as if its models were here: in pieces, a few at a time, again where it was busy.

    client = Client("http://127.0.0.1:8000")
    found = client.embed("omnisky-nano", galaxies)             # as omnisky.embed(model, galaxies)
    vectors = client.embeddings(galaxies, "omnisky-nano")      # (object, width)

Errors are those that the same call would raise here, and ServiceError where there is no server.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from base64 import b64encode
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
import numpy as np
import pyarrow as pa
from jaxtyping import Float

from omnisky import errors
from omnisky.errors import BadValue, OmniskyError, ProvenanceError, ServiceError
from omnisky.observe.arrow import to_arrow
from omnisky.observe.loader import Source
from omnisky.observe.types import Image, Observation, Part, Spectrum

if TYPE_CHECKING:
    from omnisky.embed import Embedding
    from omnisky.generate import Posterior

ARROW, JSON = "application/vnd.apache.arrow.stream", "application/json"
Watch = Callable[[int, int], None]
"""(objects done, objects in all)"""
What = Observation | Source | Image | Spectrum
T = TypeVar("T")


class AsyncClient:
    """A server's models. At most `at_once` requests are under way; what fails is tried `retries` times more.

    `api_key` is by default the environment's OMNISKY_API_KEY. `transport` is httpx's, for tests and proxies.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout_s: float = 300.0,
        retries: int = 6,
        at_once: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        key = os.environ.get("OMNISKY_API_KEY", "") if api_key is None else api_key
        headers = {b"Authorization": f"Bearer {key}".encode()} if key else {}
        self._http = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=timeout_s, transport=transport)
        self.retries, self.at_once, self._lots = retries, at_once, random.Random()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def models(self) -> tuple[str, ...]:
        """The models served."""
        told = (await self._send("GET", "/v1/models")).json()
        return tuple(one["id"] for one in told["data"])

    async def embed(
        self,
        model: str,
        seen: What,
        *,
        part: str | None = None,
        blocks: int | None = None,
        batch: int = 64,
        precision: str = "fp32",
        watch: Watch | None = None,
    ) -> Embedding:
        """As `omnisky.embed`, of a model by its name there."""
        from omnisky.embed import Embedding

        words = {"model": model, "part": part, "blocks": blocks, "precision": precision}
        answers = await self._each("/v1/embed", words, seen, part, batch, watch, ARROW)
        pieces = [pa.ipc.open_stream(one.content).read_all() for one in answers]
        if len(signed := {str(one.schema.metadata) for one in pieces}) > 1:
            raise ProvenanceError(
                "the server's model changed meanwhile", saw=tuple(signed), want="one", hint="ask again"
            )
        return Embedding.of(pa.concat_tables(pieces))

    async def embeddings(
        self,
        seen: What,
        model: str,
        *,
        part: str | None = None,
        blocks: int | None = None,
        batch: int = 64,
        precision: str = "fp32",
        watch: Watch | None = None,
    ) -> Float[np.ndarray, "object width"]:
        """The vectors of `embed` alone."""
        more: dict[str, Any] = {"part": part, "blocks": blocks, "batch": batch, "precision": precision, "watch": watch}
        return (await self.embed(model, seen, **more)).vectors

    async def search(  # noqa: PLR0913 - as many ways to ask
        self,
        seen: What | None = None,
        *,
        like: Sequence[str] = (),
        unlike: Sequence[str] = (),
        ra: float | None = None,
        dec: float | None = None,
        radius_arcsec: float = 5.0,
        by: str | None = None,
        across: str | None = None,
        k: int = 10,
        between: Mapping[str, tuple[float | None, float | None]] | None = None,
        cone: tuple[float, float, float] | None = None,
        index: str | None = None,
    ) -> pa.Table:
        """Look-alikes of what was seen, or of objects of the index: object_id, similarity, ra, dec and its columns.

        Of several the mean counts. `between` is column → (least, largest), None is open; `cone` is (ra, dec, radius),
        deg.
        """
        ask: dict[str, Any] = {"like": [*like], "unlike": [*unlike], "radius_arcsec": radius_arcsec, "k": k}
        ask |= {"ra": ra, "dec": dec, "by": by, "across": across, "index": index, "where": dict(between or {})}
        ask |= {"cone": cone}
        if seen is not None:
            rows = _observation(seen).take(slice(None))
            body = b64encode(_arrow(rows, by if by in rows.parts else None)).decode()
            ask["input"] = f"data:{ARROW};base64,{body}"
        matches = (await self._send("POST", "/v1/search", json=ask)).json()["matches"]
        return pa.Table.from_pylist([one | one.pop("scalars") for one in matches])

    async def predict(self, head: str, seen: What, *, batch: int = 64, watch: Watch | None = None) -> pa.Table:
        """What a head says: object_id, value, and the chance of each class where there are classes."""
        answers = await self._each(f"/v1/predict/{head}", {}, seen, None, batch, watch, JSON)
        rows = [row for one in answers for row in one.json()["data"]]
        return pa.Table.from_pylist([row | (row.pop("chance") or {}) for row in rows])

    async def posterior(
        self, model: str, seen: What, name: str, *, temperature: float = 1.0, batch: int = 256
    ) -> Posterior:
        """As `omnisky.generate.posterior`, of a model by its name there."""
        from omnisky.generate import Posterior

        words = {"model": model, "name": name, "temperature": temperature}
        answers = await self._each("/v1/posterior", words, seen, None, batch, None, JSON)
        told = [one.json() for one in answers]
        chance = np.array([row["chance"] for one in told for row in one["data"]])
        return Posterior(chance, np.array(told[0]["edges"]), told[0]["name"], told[0]["unit"])

    # --- inside ---

    async def _each(
        self,
        path: str,
        words: Mapping[str, Any],
        seen: What,
        part: str | None,
        batch: int,
        watch: Watch | None,
        accept: str,
    ) -> list[httpx.Response]:
        """The answers to all pieces, in their order."""
        source = _observation(seen)
        if batch < 1 or not len(source):
            raise BadValue(saw=f"{len(source)} objects, batch {batch}", want="at least one of each")
        words = {name: value for name, value in words.items() if value is not None}
        room, done = asyncio.Semaphore(self.at_once), 0

        async def ask(start: int) -> list[httpx.Response]:
            nonlocal done
            async with room:
                rows = source.take(slice(start, start + batch))
                answers = await self._piece(path, words, rows, part, accept)
                done += len(rows)
                if watch is not None:
                    watch(done, len(source))
                return answers

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(start)) for start in range(0, len(source), batch)]
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
        return [answer for task in tasks for answer in task.result()]

    async def _piece(
        self, path: str, words: Mapping[str, Any], rows: Observation, part: str | None, accept: str
    ) -> list[httpx.Response]:
        """One answer, or those of both halves where it was too much at once."""
        headers = {"Content-Type": ARROW, "Accept": accept}
        try:
            return [await self._send("POST", path, params=words, content=_arrow(rows, part), headers=headers)]
        except errors.TooMuch:
            if len(rows) == 1:
                raise
            half = len(rows) // 2
            halves = (rows.take(slice(0, half)), rows.take(slice(half, None)))
            return [one for some in halves for one in await self._piece(path, words, some, part, accept)]

    async def _send(self, verb: str, path: str, **more: Any) -> httpx.Response:
        """Again where the server is busy or away, after a while that doubles and varies: others try again, too."""
        for left in reversed(range(self.retries + 1)):
            pause_s = self._lots.uniform(0.5, 1) * min(0.1 * 2 ** (self.retries - left), 10)
            try:
                answer = await self._http.request(verb, path, **more)
            except httpx.TransportError as error:
                if not left:
                    said = f"{type(error).__name__}: {error}"
                    where, hint = str(self._http.base_url), "is it running? omnisky serve"
                    raise ServiceError(where, saw=said, want="an Omnisky server", hint=hint) from error
            else:
                if answer.status_code not in (429, 503) or not left:
                    return _checked(answer)
                pause_s = max(pause_s, float(answer.headers.get("retry-after", 0)) * self._lots.uniform(0.5, 1))
            await asyncio.sleep(pause_s)
        raise AssertionError("the last try returns or raises")


class Client:
    """`AsyncClient` for code that waits. The same arguments, the same answers."""

    def __init__(self, base_url: str = "http://127.0.0.1:8000", **more: Any) -> None:
        self._loop = asyncio.new_event_loop()
        # Its own thread, so that it also works where a loop is running already, as in notebooks.
        threading.Thread(target=self._run, name="omnisky-client", daemon=True).start()
        self._client = AsyncClient(base_url, **more)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        if self._loop.is_running():
            self._wait(self._client.close())
            self._loop.call_soon_threadsafe(self._loop.stop)

    def models(self) -> tuple[str, ...]:
        """The models served."""
        return self._wait(self._client.models())

    def embed(
        self,
        model: str,
        seen: What,
        *,
        part: str | None = None,
        blocks: int | None = None,
        batch: int = 64,
        precision: str = "fp32",
        watch: Watch | None = None,
    ) -> Embedding:
        """As `omnisky.embed`, of a model by its name there."""
        more: dict[str, Any] = {"part": part, "blocks": blocks, "batch": batch, "precision": precision, "watch": watch}
        return self._wait(self._client.embed(model, seen, **more))

    def embeddings(
        self,
        seen: What,
        model: str,
        *,
        part: str | None = None,
        blocks: int | None = None,
        batch: int = 64,
        precision: str = "fp32",
        watch: Watch | None = None,
    ) -> Float[np.ndarray, "object width"]:
        """The vectors of `embed` alone."""
        more: dict[str, Any] = {"part": part, "blocks": blocks, "batch": batch, "precision": precision, "watch": watch}
        return self.embed(model, seen, **more).vectors

    def search(self, seen: What | None = None, **more: Any) -> pa.Table:
        """Look-alikes: as `AsyncClient.search`."""
        return self._wait(self._client.search(seen, **more))

    def predict(self, head: str, seen: What, *, batch: int = 64, watch: Watch | None = None) -> pa.Table:
        """What a head says: object_id, value, and the chance of each class where there are classes."""
        return self._wait(self._client.predict(head, seen, batch=batch, watch=watch))

    def posterior(self, model: str, seen: What, name: str, *, temperature: float = 1.0, batch: int = 256) -> Posterior:
        """As `omnisky.generate.posterior`, of a model by its name there."""
        return self._wait(self._client.posterior(model, seen, name, temperature=temperature, batch=batch))

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _observation(seen: What) -> Observation | Source:
    """A part by itself gets ids: its rows, counted."""
    if not isinstance(seen, Part):
        return seen
    ids = range(len(seen))
    return Observation.of(ids, image=seen) if isinstance(seen, Image) else Observation.of(ids, spectrum=seen)


def _arrow(seen: Observation, part: str | None) -> bytes:
    """The one part that is asked for, or all."""
    if part is not None:
        seen = Observation(seen.object_id, seen.ra, seen.dec, {part: seen[part]})
    return as_stream(to_arrow(seen))


def as_stream(table: pa.Table | pa.RecordBatch) -> bytes:
    """An Arrow stream of it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write(table)
    return sink.getvalue().to_pybytes()


def _checked(answer: httpx.Response) -> httpx.Response:
    """The answer, or the error it tells of, as the same call would have raised it here."""
    if answer.is_success:
        return answer
    try:
        told = answer.json()
    except ValueError:
        told = {"detail": f"HTTP {answer.status_code}: {answer.text[:200]}"}
    named = getattr(errors, str(told.get("title")), None)
    kind = named if isinstance(named, type) and issubclass(named, OmniskyError) else ServiceError
    error = kind(str(told.get("detail", f"HTTP {answer.status_code}")))
    error.saw, error.want, error.hint = told.get("saw"), told.get("want"), told.get("try", "")
    raise error
