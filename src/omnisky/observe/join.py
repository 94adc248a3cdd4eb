"""Several surveys' measurements of the same objects as one: rows from a match, columns from everybody.

    found = crossmatch(desi, legacy, 1.0, pairs=mutual)
    both = joined(desi, legacy, found)              # both["spectrum"], both["image"], both["match_legacysurvey"]
    more = join(desi, legacy, found, keep_left=True)  # the same as a Source: rows are fetched when asked for
    many = star({"gaia": gaia, "hsc": hsc, "sdss": sdss}, 1.0)

A Source can be written: `write_shards(more, "matched/")`, or `write_hats`. `observe.matched` does all of it for files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer

from omnisky.errors import BadValue
from omnisky.observe.loader import Source
from omnisky.observe.match import Association, Pairs, Places, mutual
from omnisky.observe.types import Counterpart, Observation, Part

_ALONE = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class _Arm:
    """One survey's share of a join."""

    source: Source
    row: Int64[np.ndarray, " object"]
    """row of the source; −1 where the survey has no match"""
    separation_arcsec: Float[np.ndarray, " object"]


class Joined:
    """A Source whose rows are matches. Parts that several surveys have are called part_survey, others keep their name;
    match_survey says who the object is there. Ids and positions are those of the first survey that has the object.
    """

    def __init__(self, arms: Mapping[str, _Arm]) -> None:
        self._arms = dict(arms)
        held = {survey: tuple(_take(arm.source, np.zeros(0, int)).parts) for survey, arm in self._arms.items()}
        shared = {part for part, surveys in Counter(sum(held.values(), ())).items() if surveys > 1}
        self._names = {
            survey: {part: f"{part}_{survey}" if part in shared else part for part in parts}
            for survey, parts in held.items()
        }
        called = Counter([f"match_{survey}" for survey in held])
        called.update(name for names in self._names.values() for name in names.values())
        twice = tuple(name for name, times in called.items() if times > 1)
        if twice:
            hint = 'join(…, names=("…", "…")), other names for the surveys'
            raise BadValue("two parts of one name", saw=twice, want="each once", hint=hint)

    @property
    def surveys(self) -> tuple[str, ...]:
        return tuple(self._arms)

    def __len__(self) -> int:
        return len(next(iter(self._arms.values())).row)

    def take(self, index: Any) -> Observation:
        """The chosen matches with all that was measured of them, in the order asked for."""
        parts: dict[str, Part] = {}
        who: list[Counterpart] = []
        for survey, arm in self._arms.items():
            row = arm.row[index]
            there = row >= 0
            seen = _take(arm.source, row[there])
            who.append(_counterpart(seen, there, arm.separation_arcsec[index]))
            parts[f"match_{survey}"] = who[-1]
            parts |= {self._names[survey][name]: _spread(part, there) for name, part in seen.parts.items()}
        return _placed(who, parts)

    def catalogue(self) -> Observation:
        """Ids and positions of all matches, and no parts."""
        who = []
        for arm in self._arms.values():
            there = arm.row >= 0
            seen = Places.of(arm.source).take(arm.row[there])
            who.append(_counterpart(seen, there, arm.separation_arcsec))
        return _placed(who, {})


def join(
    left: Source,
    right: Source,
    found: Association,
    *,
    names: tuple[str, str] | None = None,
    keep_left: bool = False,
    keep_right: bool = False,
) -> Joined:
    """Matches as rows, in the order of `found`; with `keep_left` or `keep_right` also whom nobody matched, after them.

    `names` are those of the surveys; if not given, what the parts themselves say, else left and right.
    """
    if found.left_row.max(initial=_ALONE) >= len(left) or found.right_row.max(initial=_ALONE) >= len(right):
        saw = f"rows up to {found.left_row.max()} and {found.right_row.max()}"
        raise BadValue("a match of other data", saw=saw, want=f"below {len(left)} and {len(right)}")
    lone_left = np.setdiff1d(np.arange(len(left)), found.left_row) if keep_left else np.zeros(0, int)
    lone_right = np.setdiff1d(np.arange(len(right)), found.right_row) if keep_right else np.zeros(0, int)
    none_left, none_right = (np.full(len(lone), _ALONE) for lone in (lone_right, lone_left))
    apart = np.concatenate([found.separation_arcsec, np.full(len(lone_left) + len(lone_right), np.nan)])
    left_row = np.concatenate([found.left_row, lone_left, none_left])
    right_row = np.concatenate([found.right_row, none_right, lone_right])
    first, second = _named(left, right) if names is None else names
    if first == second:
        raise BadValue("names", saw=(first, second), want="two different ones")
    return Joined(
        {
            first: _anchor(left, left_row),
            second: _Arm(source=right, row=right_row, separation_arcsec=apart),
        }
    )


def joined(
    left: Source,
    right: Source,
    found: Association,
    *,
    names: tuple[str, str] | None = None,
    keep_left: bool = False,
    keep_right: bool = False,
) -> Observation:
    """`join`, all of it in memory."""
    return join(left, right, found, names=names, keep_left=keep_left, keep_right=keep_right).take(slice(None))


def star(
    surveys: Mapping[str, Source], radius_arcsec: float, *, pairs: Pairs = mutual, keep_anchor: bool = False
) -> Joined:
    """The first survey's objects, each with its match in every other one; with `keep_anchor` also where some have none.

    `pairs` must give an object at most one match a survey: `mutual` or `nearest`. Raises BadValue where it gives more.
    """
    if len(surveys) < 2:
        raise BadValue("surveys", saw=tuple(surveys), want="an anchor and at least one more")
    names = list(surveys)
    places = {name: Places.of(source) for name, source in surveys.items()}
    n = len(places[names[0]])
    row, apart = {}, {}
    for name in names[1:]:
        found = pairs(places[names[0]], places[name], radius_arcsec)
        if len(np.unique(found.left_row)) < len(found):
            raise BadValue("pairs", saw=f"several {name} matches of one object", want="at most one: mutual or nearest")
        row[name], apart[name] = np.full(n, _ALONE), np.full(n, np.nan)
        row[name][found.left_row] = found.right_row
        apart[name][found.left_row] = found.separation_arcsec
    matched = np.all([one >= 0 for one in row.values()], axis=0)
    chosen = np.arange(n) if keep_anchor else np.flatnonzero(matched)
    others = {
        name: _Arm(source=surveys[name], row=row[name][chosen], separation_arcsec=apart[name][chosen]) for name in row
    }
    return Joined({names[0]: _anchor(surveys[names[0]], chosen), **others})


# --- rows ---------------------------------------------------------------------------------------------------------


def _anchor(source: Source, row: Integer[np.ndarray, " object"]) -> _Arm:
    return _Arm(source=source, row=row.astype(np.int64), separation_arcsec=np.where(row >= 0, 0.0, np.nan))


def _named(left: Source, right: Source) -> tuple[str, str]:
    """The survey that a side's parts name, where each side names one and the two differ."""
    told = []
    for source in (left, right):
        parts = _take(source, np.zeros(0, int)).parts.values()
        surveys = {getattr(part, "survey", "") for part in parts} - {""}
        told.append(surveys.pop() if len(surveys) == 1 else "")
    first, second = told
    return (first, second) if first and second and first != second else ("left", "right")


def _take(source: Source, row: Integer[np.ndarray, " object"]) -> Observation:
    """Rows in any order, each once from the source and in its order: a file is read from front to back."""
    if (np.diff(row) > 0).all():
        return source.take(row)
    rising, back = np.unique(row, return_inverse=True)
    return source.take(rising).take(back)


def _counterpart(
    seen: Observation, there: Bool[np.ndarray, " object"], apart: Float[np.ndarray, " object"]
) -> Counterpart:
    ra, dec = (np.full(len(there), np.nan) for _ in range(2))
    ids = np.zeros(len(there), dtype=seen.object_id.dtype)
    ra[there], dec[there], ids[there] = seen.ra, seen.dec, seen.object_id
    return Counterpart(object_id=ids, ra=ra, dec=dec, separation_arcsec=apart, present=there)


def _placed(who: list[Counterpart], parts: Mapping[str, Part]) -> Observation:
    """Where the first survey that has the object sees it, and by its name."""
    first = reduce(_either, who)
    return Observation(first.object_id, first.ra, first.dec, parts)


def _either(first: Counterpart, second: Counterpart) -> Counterpart:
    """The first where it knows the object, else the second."""
    known = first.there()
    pick = {name: np.where(known, getattr(first, name), getattr(second, name)) for name in ("object_id", "ra", "dec")}
    return replace(first, **pick, present=known | second.there())


def _spread(part: Part, there: Bool[np.ndarray, " object"]) -> Part:
    """The part's rows where `there`; elsewhere nothing, and `present` says so."""
    if there.all():
        return part
    values: dict[str, Any] = {}
    for name in (field.name for field in fields(part)):
        value = part.there() if name == "present" else getattr(part, name)
        if isinstance(value, np.ndarray):
            values[name] = _filled(name, value, there)
        elif isinstance(value, Mapping):
            values[name] = {key: _filled(key, column, there) for key, column in value.items()}
    return replace(part, **values)


def _filled(name: str, value: np.ndarray, there: Bool[np.ndarray, " object"]) -> np.ndarray:
    """NaN, 0, False or empty text in the rows that hold nothing; inverse variances 0. As `observe.arrow` reads them."""
    blank = np.nan if value.dtype.kind == "f" and name != "ivar" else np.zeros((), value.dtype)
    full = np.full((len(there), *value.shape[1:]), blank, dtype=value.dtype)
    full[there] = value
    return full
