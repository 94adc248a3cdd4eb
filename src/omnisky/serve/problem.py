"""Errors as RFC 9457 problem details: what we saw, what we want, what to try."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from omnisky.errors import Busy, Failed, MissingExtra, NotAllowed, OmniskyError, ServiceError, TooMuch

STATUS: tuple[tuple[type[OmniskyError], int], ...] = (
    (TooMuch, 413),
    (Busy, 429),
    (NotAllowed, 401),
    (Failed, 424),
    (MissingExtra, 424),
    (ServiceError, 503),
    (OmniskyError, 422),
)
"""the first kind that fits"""


class Problem(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["urn:omnisky:BandMismatch"])
    title: str
    status: int
    detail: str
    saw: str | None = None
    want: str | None = None
    hint: str | None = Field(None, alias="try")


_BODY = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": said, "content": _BODY}
    for status, said in {
        400: "not HTTP as we know it",
        401: "no key, or another one",
        403: "asked by a page of another site",
        408: "the header or the body did not come in time",
        413: "more than the server takes",
        415: "a body of another kind",
        422: "it cannot be used as it is",
        424: "the model, or a package it needs, failed",
        429: "too many wait; ask again after Retry-After seconds",
        503: "no answer in time",
    }.items()
}


def status_of(error: OmniskyError) -> int:
    return next(status for kind, status in STATUS if isinstance(error, kind))


def problem(error: OmniskyError) -> JSONResponse:
    """The answer that tells of this error."""
    more = {"saw": error.saw, "want": error.want, "try": error.hint or None}
    spelled = {name: _text(value) for name, value in more.items() if value is not None}
    return told(status_of(error), type(error).__name__, str(error), spelled)


def _text(value: Any) -> str:
    """As the error itself says it."""
    words = isinstance(value, tuple | list) and all(isinstance(one, str) for one in value)
    return " ".join(value) if words else str(value)


def told(status: int, kind: str, detail: str, more: dict[str, Any] | None = None) -> JSONResponse:
    """A problem by its parts."""
    body = {"type": f"urn:omnisky:{kind}", "title": kind, "status": status, "detail": detail, **(more or {})}
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    if status in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is not waited for
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer, Basic realm="omnisky, any name, the key as password"'
    return JSONResponse(body, status, headers, media_type="application/problem+json")
