"""Parts ↔ columns of the files that we write: the survey's own column names, and a note of what each column is.

The note is the dataset "omnisky", JSON. Other readers pass it by; ours gives back, bit for bit, what was written.
Where a survey's files hold a part otherwise than column by column (`observe.mmu_view`), it is written so, for MMU's
loader, and read back by the row, which the note carries; the fields that do not come back exactly so are kept beside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from omnisky.errors import BadValue, CorruptFile, ObservationError
from omnisky.observe import types
from omnisky.observe.assemble import part_of
from omnisky.observe.columns import native
from omnisky.observe.layout import bits
from omnisky.observe.mmu_view import has_view, view
from omnisky.observe.survey import Layout, PartRow, part_row, part_table
from omnisky.observe.types import Image, Labels, Neighbours, Part, Scalars, SegmentationMap, Spectrum

VERSION = 2

# field of a part → end of the column's name, as most sets of MMU have it.
_ENDS = {
    "flux": "flux",
    "ivar": "ivar",
    "good": "mask",
    "wavelength_aa": "lambda",
    "lsf_sigma_pix": "lsf_sigma",
    "psf_fwhm_arcsec": "psf_fwhm",
    "pixel_scales_arcsec": "scale",
    "time_mjd": "time",
    "band": "band",
    "label": "label",
    "present": "present",
}
_EXACT = "omnisky_"
"""before the names of columns that only our reader asks for"""
# Fields of ours under the name that a row has for the column.
_ROW_KEYS = {"pixel_scales_arcsec": "pixel_scale_arcsec"}


@dataclass(frozen=True)
class Stored:
    """How a field lies in its column."""

    column: str
    dtype: str
    """of the field"""
    factor: float = 1.0
    """column × factor = field"""
    inverted: bool = False
    """True where the column is True for bad"""
    shared: int = 0
    """the column has one plane for this many equal ones; 0: it has all"""
    last: bool = False
    """True where the bands are the last axis of the column"""


@dataclass(frozen=True)
class PartHeader:
    """What there is to know of one part."""

    name: str
    kind: str
    fields: Mapping[str, Stored] = field(default_factory=dict)
    plain: Mapping[str, Any] = field(default_factory=dict)
    """the fields that are no arrays"""
    names: tuple[str, ...] = ()
    """of the columns of scalars, labels and neighbours that have a column each"""
    prefix: str = ""
    """before those names"""
    row: Mapping[str, Any] = field(default_factory=dict)
    """by which the columns `view` make the part, but for `fields`; as in surveys.toml"""
    view: tuple[str, ...] = ()
    """columns of that row"""
    lacks: tuple[str, ...] = ()
    """fields that the part does not have"""

    def needs(self, names: tuple[str, ...]) -> list[str]:
        """The columns to read; `names`: only these of the scalars or labels."""
        own = (stored.column for stored in self.fields.values())
        return [*own, *self.view, *(f"{self.prefix}{name}" for name in names)]

    def part(self, columns: Mapping[str, np.ndarray], names: tuple[str, ...]) -> Part:
        """The part again, as it was written."""
        kind: type[Part] = getattr(types, self.kind)
        values: dict[str, Any] = {}
        if self.row:
            values |= vars(_by_row(part_row(self.name, self.name, self.row), columns, self.plain))
            values |= dict.fromkeys(self.lacks)
        values |= {key: _restored(stored, columns[stored.column]) for key, stored in self.fields.items()}
        values |= {key: tuple(one) if isinstance(one, list) else one for key, one in self.plain.items()}
        each = [native(columns[f"{self.prefix}{name}"]) for name in names]
        if kind is Labels:
            values["columns"] = {name: _unquoted(one) for name, one in zip(names, each, strict=True)}
        elif names:
            at = [self.names.index(name) for name in names]
            units = values.get("units") or ()
            values |= {"values": np.stack(each, axis=-1), "names": names, "units": tuple(units[i] for i in at if units)}
        return kind(**values)


@dataclass(frozen=True)
class Header:
    """What a file of ours says about itself."""

    parts: tuple[PartHeader, ...] = ()
    survey: str = ""
    digest: str = ""
    """of all columns"""
    layout: Layout = Layout.TABLE
    version: int = VERSION

    def columns(self) -> set[str]:
        """All columns that the parts need."""
        return {name for part in self.parts for name in part.needs(part.names)}

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self) | {"layout": self.layout.value})

    @classmethod
    def parse(cls, text: str) -> Header:
        """From JSON. Raises CorruptFile, also for a later version than ours."""
        try:
            values = json.loads(text)
            if values["version"] > VERSION:
                raise CorruptFile(
                    "a later format", saw=values["version"], want=f"{VERSION} or less", hint="a newer omnisky"
                )
            parts = []
            for one in values["parts"]:
                stored = {key: Stored(**how) for key, how in one.pop("fields").items()}
                words = {key: tuple(one.get(key, ())) for key in ("names", "view", "lacks")}
                parts.append(PartHeader(**one | {"fields": stored} | words))
            return cls(tuple(parts), values["survey"], values["digest"], Layout(values.get("layout", "table")))
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptFile("the note about columns", saw=error, want="JSON as we write it") from error


@dataclass(frozen=True, eq=False)
class LaidOut:
    """A part as columns, and how to get it back."""

    header: PartHeader
    columns: Mapping[str, np.ndarray]


def lay_out(name: str, part: Part, row: PartRow | None = None) -> LaidOut:
    """A part → columns: under the names, in the units and with the flags of the survey's row, where it has one.

    Units of flux are undone in float64, so that float32 comes back exactly.
    """
    row = row if row is not None and row.kind is type(part) else None
    if row is not None and has_view(row):
        return _in_view(name, part, row)
    columns: dict[str, np.ndarray] = {}
    stored: dict[str, Stored] = {}
    plain: dict[str, Any] = {}
    split = _own_columns(name, part, row)
    for key in (f.name for f in fields(part)):
        value = getattr(part, key)
        if value is None or key in split.skip:
            continue
        if isinstance(value, np.ndarray):
            stored[key], columns_of = _stored(name, key, value, row, part)
            columns[stored[key].column] = columns_of
        else:
            plain[key] = value
    header = PartHeader(name, type(part).__name__, stored, plain, split.names, split.prefix)
    return LaidOut(header, {**columns, **split.columns, **_beside(name, part, row)})


def _in_view(name: str, part: Part, row: PartRow) -> LaidOut:
    """As MMU's loader wants it, and beside it what the row would not give back exactly."""
    seen = view(part, row)
    exact = lay_out(f"{_EXACT}{name}", part)
    if not seen:
        return LaidOut(replace(exact.header, name=name), exact.columns)
    plain = exact.header.plain
    try:
        again = vars(_by_row(row, seen, plain))
    except ObservationError:  # the row refuses such a part: then all of it is kept beside
        again = {}
    kept = {key: one for key, one in exact.header.fields.items() if not _alike(getattr(part, key), again.get(key))}
    columns = {**seen, **{one.column: exact.columns[one.column] for one in kept.values()}}
    by_row: dict[str, Any] = {"row": part_table(row), "view": tuple(seen)} if again else {}
    lacks = tuple(f.name for f in fields(part) if getattr(part, f.name) is None)
    return LaidOut(replace(exact.header, name=name, fields=kept, lacks=lacks, **by_row), columns)


def _by_row(row: PartRow, columns: Mapping[str, np.ndarray], plain: Mapping[str, Any]) -> Part:
    return part_of(row, columns, plain.get("survey", ""), tuple(plain.get("bands", ())))


def _alike(a: np.ndarray, b: Any) -> bool:
    """To the bit, and of one kind."""
    if not isinstance(b, np.ndarray) or a.dtype != b.dtype or a.shape != b.shape:
        return False
    return bool((bits(a) == bits(b)).all())


@dataclass(frozen=True)
class _Own:
    """Columns of scalars, labels and neighbours that stand on their own."""

    columns: dict[str, np.ndarray] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    prefix: str = ""
    skip: tuple[str, ...] = ()


def _own_columns(name: str, part: Part, row: PartRow | None) -> _Own:
    if isinstance(part, Labels):
        prefix = "" if name == "labels" else f"{name}_"
        each = {f"{prefix}{key}": _quoted(value) for key, value in part.columns.items()}
        return _Own(each, tuple(part.columns), prefix, ("columns",))
    if (isinstance(part, Scalars) and name == "scalars") or isinstance(part, Neighbours):
        prefix = "" if isinstance(part, Scalars) else row.prefix if row else f"{name}_"
        if len(set(part.names)) != len(part.names):
            raise BadValue(f"{name}: columns of one name", saw=part.names, want="each once")
        each = {f"{prefix}{key}": part.values[..., i] for i, key in enumerate(part.names)}
        return _Own(each, part.names, prefix, ("values", "names")) if part.names else _Own()
    return _Own()


def _stored(name: str, key: str, value: np.ndarray, row: PartRow | None, part: Part) -> tuple[Stored, np.ndarray]:
    theirs = row.columns.get(_ROW_KEYS.get(key, key), ()) if row else ()
    bad = row.columns.get("bad", ()) if row and key == "good" else ()
    end = "array" if isinstance(part, Image) and key == "flux" else _ENDS.get(key, key)
    how = Stored((bad or theirs or (f"{name}_{end}",))[0], str(value.dtype))
    if isinstance(part, SegmentationMap) and key == "label" and not theirs:
        how = replace(how, column=name)
    if key == "good" and (bad or (isinstance(part, Spectrum) and not theirs)):
        return replace(how, inverted=True), ~value
    if key == "good" and row and row.one_mask and value.shape[1] and (value == value[:, :1]).all():
        return replace(how, shared=value.shape[1]), value[:, 0]
    factor = {"flux": row.factor, "ivar": row.factor**-2}.get(key, 1.0) if row else 1.0
    if factor != 1:
        return replace(how, factor=factor), value.astype(np.float64) / factor
    if key == "flux" and row and row.band_axis != 1:
        return replace(how, last=True), np.moveaxis(value, 1, -1)
    return how, value


def _beside(name: str, part: Part, row: PartRow | None) -> dict[str, np.ndarray]:
    """What MMU's loaders look for beside an image, and ours does not need."""
    if not isinstance(part, Image) or (row is not None and row.band_axis != 1):
        return {}
    theirs = dict(zip(row.bands, row.file_bands, strict=True)) if row and row.file_bands else {}
    bands = np.array([theirs.get(band, band).encode() for band in part.bands])
    beside = {f"{name}_band": np.tile(bands, (len(part), 1))}
    if part.pixel_scales_arcsec is None and np.isfinite(part.pixel_scale_arcsec):
        beside[f"{name}_scale"] = np.full((len(part), len(part.bands)), part.pixel_scale_arcsec, dtype=np.float32)
    return beside


def _restored(stored: Stored, values: np.ndarray) -> np.ndarray:
    values = native(values)
    if stored.inverted:
        values = ~values
    if stored.shared:
        values = np.repeat(values[:, None], stored.shared, axis=1)
    if stored.last:
        values = np.ascontiguousarray(np.moveaxis(values, -1, 1))
    return values if stored.factor == 1 else (values * stored.factor).astype(stored.dtype)


def _quoted(values: np.ndarray) -> np.ndarray:
    """Text as UTF-8 bytes of fixed length: HDF5 has no other that every reader understands."""
    return encoded(values) if values.dtype.kind == "U" else values


def encoded(text: np.ndarray) -> np.ndarray:
    """UTF-8, of one length and never of none, which HDF5 cannot hold."""
    utf8 = np.char.encode(text, "utf-8") if text.size else text.astype("S1")
    return utf8 if utf8.dtype.itemsize else utf8.astype("S1")


def _unquoted(values: np.ndarray) -> np.ndarray:
    return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
