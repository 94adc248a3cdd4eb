"""The HTTP routes. Each reads a question, calls one public function, and writes the answer.

`build(house)` gives the FastAPI application. Questions are JSON (`asks`), or a body as it is (FITS, npz, Arrow, JPEG,
PNG) with the same words in the query: `curl --data-binary @cutout.fits ".../v1/search?by=image&k=5"`.
"""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from fastapi import APIRouter, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import ValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import HTMLResponse, JSONResponse, Response

from omnisky import __version__
from omnisky.codec.tokens import Codec
from omnisky.embed import Embedding
from omnisky.errors import BadValue, OmniskyError
from omnisky.model.autoregressive import Autoregressive
from omnisky.model.masked import AnyToAny
from omnisky.observe.types import Observation
from omnisky.serve import asks, cone, described, guard, wire
from omnisky.serve.batch import Desk
from omnisky.serve.client import ARROW, as_stream
from omnisky.serve.gate import Gate
from omnisky.serve.house import House, Limits
from omnisky.serve.meters import Measured, Meters
from omnisky.serve.problem import RESPONSES, Problem, problem, told
from omnisky.serve.serving import Serving, side

log = logging.getLogger("omnisky.serve")
Ask = TypeVar("Ask", bound=asks.Strict)
routes = APIRouter(responses=RESPONSES)
_READING, _FEW = Lock(), 1000


def build(house: House, *, hosts: Sequence[str] = ("*",)) -> FastAPI:
    """The application. `hosts` are the names it answers to; a server without a key wants only those of its machine.

    What waits when it shuts down is answered first.
    """
    limits = house.limits
    meters = Meters(lambda: len(desk))
    desk = Desk(
        waiting=limits.waiting,
        batch=limits.batch,
        seconds=limits.seconds,
        held_bytes=limits.held_bytes,
        heard=meters.batch,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(desk.close)

    about = "Embeddings, look-alikes, predictions and drawings of what telescopes saw."
    # FastAPI's own /docs is a script from elsewhere, which would run beside our answers: `description` is ours.
    bare: dict[str, Any] = {"docs_url": None, "redoc_url": None}
    app = FastAPI(title="Omnisky", version=__version__, description=about, lifespan=lifespan, **bare)
    app.state.serving, app.state.meters, app.state.models = Serving(house, desk), meters, _models(house)
    app.include_router(routes)
    app.add_exception_handler(OmniskyError, _refused)
    app.add_exception_handler(RequestValidationError, _misread)
    app.add_exception_handler(ValidationError, _misread)
    app.add_exception_handler(HTTPException, _not_http)
    app.add_exception_handler(Exception, _broken)
    app.add_middleware(Gate, limits=limits, api_key=house.api_key)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_middleware(Measured, meters=meters)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


# --- reading a question -------------------------------------------------------------------------------------------


async def _asked(request: Request, kind: type[Ask]) -> tuple[Ask, list[Observation]]:
    """The question and the observations in it, read in a thread: large bodies keep nobody waiting."""
    body = await request.body()
    limits = _serving(request).house.limits
    if request.headers.get("content-type", "").partition(";")[0].strip() == "application/json":
        return await run_in_threadpool(_of_json, body, kind, limits)
    words = dict(request.query_params)
    if "input" in words:
        raise BadValue("input", saw="in the address", want="in the body")
    values = {name: _word(value) for name, value in words.items()} | ({"input": []} if body else {})
    ask = kind.model_validate(values)
    return ask, [await run_in_threadpool(wire.observation, body, limits)] if body else []


def _of_json(body: bytes, kind: type[Ask], limits: Limits) -> tuple[Ask, list[Observation]]:
    """One at a time: Python's numbers are many times as large as bodies and arrays, and are let go of at once."""
    with _READING:
        guard.demand_json(body, limits)
        ask = kind.model_validate_json(body)
        inputs = getattr(ask, "input", None)
        seen = [] if inputs is None else wire.observations(inputs, limits)
        return ask.model_copy(update={"input": None}), seen


def _word(text: str) -> Any:
    """Lists and mappings come as JSON, all else as it is."""
    try:
        return json.loads(text) if text.startswith(("[", "{")) else text
    except ValueError as error:
        raise BadValue("a word of the address", saw=text[:60], want="JSON") from error


def _serving(request: Request) -> Serving:
    return request.app.state.serving


def _wants_arrow(request: Request) -> bool:
    """As asked by Accept; else as it came."""
    accepted = request.headers.get("accept", "")
    if ARROW in accepted or "application/json" in accepted:
        return ARROW in accepted
    return request.headers.get("content-type", "").startswith(ARROW)


def _body(kind: type[asks.Strict], *, plain: bool = True) -> dict[str, Any]:
    """What the route takes, for the OpenAPI description; `plain`: also bodies as they are."""
    raw = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}} if plain else {}
    own = {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}
    return {"requestBody": {"required": True, "content": own | raw}}


# --- questions ----------------------------------------------------------------------------------------------------


@routes.post(
    "/v1/embeddings", response_model=asks.EmbeddingsAnswer, openapi_extra=_body(asks.EmbeddingsAsk, plain=False)
)
async def embeddings(request: Request) -> Response:
    """As OpenAI's: one vector an input. The `openai` client works as it is, with data URIs for text."""
    serving, body = _serving(request), await request.body()
    ask, seen = await run_in_threadpool(_of_json, body, asks.EmbeddingsAsk, serving.house.limits)
    if many := [len(one) for one in seen if len(one) != 1]:
        raise BadValue("an input", saw=f"{many[0]} objects", want="one each", hint="/v1/embed takes many")
    found = await serving.embed(ask.model, seen, ask.part, None, ask.precision)
    if ask.dimensions not in (None, found.vectors.shape[1]):
        raise BadValue("dimensions", saw=ask.dimensions, want=f"{found.vectors.shape[1]}, the model's own")
    rows = [
        {"object": "embedding", "index": i, "embedding": one}
        for i, one in enumerate(_as_asked(found.vectors, ask.encoding_format))
    ]
    usage = {"prompt_tokens": len(rows), "total_tokens": len(rows)}
    return JSONResponse(
        {"object": "list", "model": ask.model, "data": rows, "usage": usage, "signature": found.signature}
    )


def _as_asked(vectors: np.ndarray, encoding: str) -> list[Any]:
    if encoding == "base64":
        return [b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
    return vectors.tolist()


@routes.post("/v1/embed", response_model=asks.EmbedAnswer, openapi_extra=_body(asks.EmbedAsk))
async def embed(request: Request) -> Response:
    """Many objects at once. An Arrow stream in gives one out (object_id, ra, dec, embedding), unless JSON is asked."""
    ask, seen = await _asked(request, asks.EmbedAsk)
    found = await _serving(request).embed(ask.model, seen, ask.part, ask.blocks, ask.precision)
    if _wants_arrow(request):
        return Response(as_stream(found.table()), media_type=ARROW)
    return JSONResponse({"model": ask.model, "signature": found.signature, "data": _rows(found)})


def _rows(found: Embedding) -> list[dict[str, Any]]:
    columns = (found.object_id.tolist(), wire.plain(found.ra), wire.plain(found.dec), wire.plain(found.vectors))
    return [dict(zip(("object_id", "ra", "dec", "embedding"), row, strict=True)) for row in zip(*columns, strict=True)]


@routes.post("/v1/search", response_model=asks.SearchAnswer, openapi_extra=_body(asks.SearchAsk))
async def search(request: Request) -> Response:
    """Look-alikes of uploads, of ids, or of what is at a place; in one modality or across; filtered."""
    ask, seen = await _asked(request, asks.SearchAsk)
    serving = _serving(request)
    ask = ask.model_copy(update={"by": side(serving.house.index(ask.index), ask, seen)})
    index, found = await serving.search(ask, seen)
    name = ask.index or next(iter(serving.house.indices))
    answers = index.objects.take(found.rows[0])
    rows = wire.json_of(answers)
    for row, similarity in zip(rows, found.similarity[0].tolist(), strict=True):
        row["similarity"] = similarity
        row.setdefault("scalars", {})
    told = {"index": name, "signature": index.signature, "by": ask.by, "across": ask.across or ask.by}
    return JSONResponse({**told, "matches": rows})


@routes.post("/v1/generate", response_model=asks.GenerateAnswer, openapi_extra=_body(asks.GenerateAsk))
async def generate(request: Request) -> Response:
    """What the model makes of what it was shown: never measured."""
    ask, seen = await _asked(request, asks.GenerateAsk)
    found = await _serving(request).generate(ask, seen)
    if _wants_arrow(request):
        return Response(wire.arrow_of(found), media_type=ARROW)
    about = {"model": ask.model, "generated": True, "target": ask.target}
    return JSONResponse({**about, "data": await run_in_threadpool(wire.json_of, found)})


@routes.post("/v1/posterior", response_model=asks.PosteriorAnswer, openapi_extra=_body(asks.PosteriorAsk))
async def posterior(request: Request) -> Response:
    """How likely each value of a number is."""
    ask, seen = await _asked(request, asks.PosteriorAsk)
    found = await _serving(request).posterior(ask, seen)
    rows = []
    for given, said in zip(seen, found, strict=True):
        each = (given.object_id.tolist(), said.chance, said.mean(), said.std(), said.interval(0.68))
        rows += [
            {"object_id": i, "chance": c.tolist(), "mean": float(m), "std": float(s), "interval_68": r.tolist()}
            for i, c, m, s, r in zip(*each, strict=True)
        ]
    about = {"model": ask.model, "name": found[0].name, "unit": found[0].unit, "edges": found[0].edges.tolist()}
    return JSONResponse({**about, "data": rows})


@routes.post("/v1/predict/{head}", response_model=asks.PredictAnswer, openapi_extra=_body(asks.PredictAsk))
async def predict(request: Request, head: str) -> Response:
    """What a head says: a class with the chance of each, or numbers."""
    _, seen = await _asked(request, asks.PredictAsk)
    rows = []
    for given, said in zip(seen, await _serving(request).predict(head, seen), strict=True):
        for i, (name, value) in enumerate(zip(given.object_id.tolist(), wire.plain(said.values), strict=True)):
            chance = None if said.chance is None else dict(zip(said.classes, said.chance[i].tolist(), strict=True))
            rows.append({"object_id": name, "value": value, "chance": chance})
    return JSONResponse({"head": head, "data": rows})


# --- about the server ---------------------------------------------------------------------------------------------


@routes.get("/v1/models", response_model=asks.ModelsAnswer)
async def models(request: Request) -> Response:
    """The models served, what they read and what they can."""
    return JSONResponse({"object": "list", "data": request.app.state.models})


def _models(house: House) -> list[dict[str, Any]]:
    return [
        {
            "id": name,
            "object": "model",
            "created": int(datetime.now(UTC).timestamp()),
            "owned_by": "omnisky",
            "kind": type(model).__name__,
            "parameters": sum(p.numel() for p in model.parameters()),
            "signature": house.signatures[name],
            "reads": [_reads(codec) for codec in model.codecs],
            "can": ["embed"]
            + ["generate"] * isinstance(model, Autoregressive | AnyToAny)
            + ["posterior"] * isinstance(model, AnyToAny),
        }
        for name, model in house.models.items()
    ]


def _reads(codec: Codec) -> dict[str, Any]:
    bands = getattr(codec, "bands", None)
    about = {"part": codec.part, "name": codec.name, "kind": type(codec).__name__}
    return about | {"bands": None if bands is None else list(bands)}


@routes.get("/health", response_model=asks.HealthAnswer)
async def health() -> Response:
    """The models are loaded, and the server listens."""
    return JSONResponse({"status": "ok"})


@routes.get("/info", response_model=asks.InfoAnswer)
async def info(request: Request) -> Response:
    """What is served, and how much may be asked."""
    house = _serving(request).house
    indices = [
        {
            "name": name,
            "signature": index.signature,
            "objects": len(index),
            "columns": list(index.objects["scalars"].names) if "scalars" in index.objects else [],
            "sides": [{"name": name, "rows": len(one)} for name, one in index.sides.items()],
            "model": house.makers[index.signature].model if index.signature in house.makers else None,
        }
        for name, index in house.indices.items()
    ]
    told = {"omnisky": __version__, "models": list(house.models), "indices": indices, "heads": list(house.heads)}
    return JSONResponse({**told, "limits": vars(house.limits)})


@routes.get("/docs", include_in_schema=False)
async def description(request: Request) -> Response:
    """What can be asked, for people."""
    return HTMLResponse(described.page(request.app.openapi()), headers={"Content-Security-Policy": described.POLICY})


@routes.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(request.app.state.meters.text(), media_type="text/plain; version=0.0.4")


@routes.get("/scs", response_class=Response)
def simple_cone_search(request: Request) -> Response:
    """IVOA Simple Cone Search: RA, DEC, SR in degrees, and `index` where there are several → VOTable."""
    words = {name.upper(): value for name, value in request.query_params.items()}
    try:
        place = [_degrees(words, name) for name in ("RA", "DEC", "SR")]
        index = _serving(request).house.index(words.get("INDEX"))
        return Response(cone.cone_search(index, *place), media_type=cone.XML)
    except OmniskyError as error:
        return Response(cone.refusal(error), media_type=cone.XML)


def _degrees(words: dict[str, str], name: str) -> float:
    try:
        return float(words[name])
    except (KeyError, ValueError) as error:
        raise BadValue(name, saw=words.get(name, "nothing"), want="a number, degrees") from error


# --- errors, measures, description --------------------------------------------------------------------------------


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, OmniskyError)
    return problem(error)


async def _misread(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError | ValidationError)
    many = 0 if isinstance(error, RequestValidationError) else error.error_count()
    if many > _FEW:  # to spell them out would take longer than all else
        return told(
            422, "BadRequest", f"{many} words that are not understood", {"try": "/openapi.json tells which are"}
        )
    said = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5]]
    return told(422, "BadRequest", "; ".join(said), {"try": "/openapi.json tells what is understood"})


async def _not_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = told(error.status_code, "HTTP", str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _broken(request: Request, error: Exception) -> Response:
    log.error("a bug of ours", exc_info=error)
    return told(500, "Bug", "the server broke down over this; it is a bug of ours", {"try": "tell us"})


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        kinds = [(one, "validation") for one in (*asks.ASKS, Problem)]
        _, known = models_json_schema(kinds, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
        made["components"]["schemas"] |= known["$defs"]
        app.openapi_schema = made
    return app.openapi_schema
