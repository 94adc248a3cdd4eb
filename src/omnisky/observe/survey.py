"""One row a survey: what its pixels mean, and which columns of a file are which field. Data, not code.

The rows are in `surveys.toml` beside this file. They are read, and checked, when `SURVEYS` is first looked into.
Where a row describes a set of the Multimodal Universe (MMU, Angeloudi et al. 2024, arXiv:2412.02527) its tables under
`mmu` say how the HDF5 files of version 1 are laid out. The traps of that data are corrected by what stands there, and
nowhere else: `observe.columns` does what the row says.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.resources import files
from typing import Any

from omnisky.errors import BadValue, UnknownKey
from omnisky.observe.types import Cube, Image, LightCurve, Neighbours, Part, Scalars, SegmentationMap, Spectrum


class Layout(Enum):
    """How objects are laid out in the files of a set."""

    TABLE = "table"
    """many objects in a file, one HDF5 dataset a column, axis 0 counts objects"""
    PER_OBJECT = "per_object"
    """one object in a file, its datasets without an object axis"""
    GROUP = "group"
    """one HDF5 group per object, in it scalars and compound tables"""


# Which fields each kind of part may take from columns. Several names for a field: the first that a file has.
_FIELDS: Mapping[type[Part], tuple[str, ...]] = {
    Image: ("flux", "ivar", "err", "good", "bad", "psf_fwhm_arcsec", "pixel_scale_arcsec", "band"),
    Spectrum: ("flux", "ivar", "err", "inverse_err", "good", "bad", "wavelength_aa", "energy_kev", "lsf_sigma_pix"),
    LightCurve: ("flux", "ivar", "err", "mag", "mag_err", "good", "bad", "time", "band", "stack"),
    SegmentationMap: ("label",),
    Neighbours: ("good",),
    Scalars: ("values",),
    Cube: ("flux", "ivar", "good", "bad", "wavelength_aa", "x", "y", "pixel_scale_arcsec"),
}
_KINDS = {kind.__name__.lower(): kind for kind in _FIELDS}


@dataclass(frozen=True, kw_only=True)
class PartRow:
    """Which columns of a file make one part of an Observation, and how."""

    name: str
    """of the part, as in `Observation.parts`"""
    kind: type[Part]
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """field of the part → names of its column, the first that a file has. "table.field" is a field of a compound.

    `good` is True = good in the file, `bad` is True (or any bit of `bad_bits`) = bad; `err` is a standard deviation,
    `inverse_err` 1 over it.
    """
    bands: tuple[str, ...] = ()
    """our names of the planes"""
    file_bands: tuple[str, ...] = ()
    """what a file calls them, if it does; compared without case"""
    band_axis: int = 1
    """of the image column: 1 for (object, band, height, width), 3 for (object, height, width, band)"""
    unit: str = ""
    """of the flux; empty for the kind's own unit"""
    flux_factor: float = 1.0
    """the file's flux × this = ours"""
    inverse_err_factor: float = 1.0
    """the file's 1/σ × this = ours"""
    zero_point_mag: float = 22.5
    """magnitude of the file's unit of flux, for images and light curves: 22.5 is ours"""
    one_mask: bool = False
    """True where the file has one plane of flags for all bands"""
    bad_bits: int = -1
    """which bits of an integer `bad` column mean bad; -1 for any"""
    padding: tuple[float, ...] = ()
    """wavelengths or times that stand for nothing"""
    time_offset_mjd: float = 0.0
    """the file's time + this = MJD"""
    air: bool = False
    """True where the file's wavelengths are those in air; they are read as vacuum wavelengths"""
    pixel_scale_arcsec: float = float("nan")
    prefix: str = ""
    """of the columns of a list of neighbours: catalog_ for catalog_FLUX_G"""
    names: tuple[str, ...] = ()
    """of neighbours' columns, or of the entries of a vector"""
    units: tuple[str, ...] = ()

    @property
    def factor(self) -> float:
        """The file's flux × this = ours, zero point and all."""
        return self.flux_factor * 10 ** (0.4 * (22.5 - self.zero_point_mag))


@dataclass(frozen=True, kw_only=True)
class MmuRow:
    """How a set of the Multimodal Universe v1 lies on disk."""

    layout: Layout
    configs: tuple[str, ...]
    """folders above healpix=…, the default first"""
    object_id: tuple[str, ...] = ("object_id",)
    """names of the column, the first that a file has"""
    ra: tuple[str, ...] = ("ra", "RA")
    """names of the column; of those a file has, the one of most precision"""
    dec: tuple[str, ...] = ("dec", "DEC")
    unknown_position: tuple[float, ...] = ()
    """(ra, dec) that stand for a position that is not known"""
    parts: tuple[PartRow, ...] = ()
    loaded: tuple[PartRow, ...] = ()
    """parts that MMU's loader changes as it reads the files: so they are in tables made with it (v1.5, Hugging Face)"""
    float_ids: bool = False
    """True where ids went through a float: 116024139.0 is 116024139"""
    units: Mapping[str, str] = field(default_factory=dict)
    """of columns that no part claims: they become the parts "scalars" and "labels". A name may have * and ? in it"""
    missing: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """column → the numbers that stand for "not measured" there"""
    suffixes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """of a column with an entry per band: SPECTROFLUX → SPECTROFLUX_U, SPECTROFLUX_G …"""
    fine_when_zero: Mapping[str, str] = field(default_factory=dict)
    """warning column → name of the label that is True where it is 0. MMU's loaders invert it under the old name"""
    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """compound tables → their fields, in the order by which MMU's loader reads them"""
    constants: Mapping[str, str] = field(default_factory=dict)
    """words that MMU's loader looks for beside each object"""
    note: str = ""
    """what else to know, and where it is from"""

    def as_loaded(self) -> MmuRow:
        """The row of tables that MMU's loader has made of the files."""
        changed = {part.name: part for part in self.loaded}
        return replace(self, parts=tuple(changed.get(part.name, part) for part in self.parts))

    def unit_of(self, column: str) -> str:
        """As astropy spells it; empty for a pure number, and where it is not known."""
        named = (unit for pattern, unit in self.units.items() if fnmatchcase(column, pattern))
        return self.units.get(column) or next(named, "")


@dataclass(frozen=True, kw_only=True)
class Survey:
    """How to read one survey's measurements, and whom to thank."""

    name: str
    bands: tuple[str, ...] = ()
    """names of the planes in order; display images are always red, green, blue"""
    filters: tuple[str, ...] = ()
    """what the planes were taken through, where the name does not say"""
    unit: str = "nanomaggy"
    """of the image planes, as in `Image.unit`"""
    pixel_scale_arcsec: float = float("nan")
    """arcsec per pixel; NaN where it differs from object to object"""
    citation: str = ""
    licence: str = ""
    mmu: MmuRow | None = None
    """where the set is one of the Multimodal Universe v1"""


class _Surveys(Mapping[str, Survey]):
    """The rows by name, read from the file when first asked for."""

    @cached_property
    def _rows(self) -> dict[str, Survey]:
        text = (files("omnisky.observe") / "surveys.toml").read_text(encoding="utf-8")
        return {name: survey_row(name, row) for name, row in tomllib.loads(text).items()}

    def __getitem__(self, name: str) -> Survey:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


SURVEYS: Mapping[str, Survey] = _Surveys()


# --- the documentation --------------------------------------------------------------------------------------------


def markdown() -> str:
    """The rows as a page of the documentation, docs/surveys.md."""
    heads = ("name", "bands", "unit", "arcsec a pixel", "parts in the Multimodal Universe", "cite", "terms")
    lines = [heads, ("---",) * len(heads), *map(_cells, SURVEYS.values())]
    return _HEAD + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(row: Survey) -> tuple[str, ...]:
    through = dict(zip(row.bands, row.filters, strict=False))
    bands = ", ".join(f"{band} ({through[band]})" if band in through else band for band in row.bands)
    scale = "–" if row.pixel_scale_arcsec != row.pixel_scale_arcsec else f"{row.pixel_scale_arcsec:g}"
    parts = ", ".join(f"`{part.name}`" for part in row.mmu.parts) if row.mmu else ""
    return f"`{row.name}`", bands or "–", row.unit if row.bands else "–", scale, parts or "–", row.citation, row.licence


_HEAD = """# Surveys

What Omnisky knows of each survey: one row of `src/omnisky/observe/surveys.toml` each, where the columns of its files
are told as well. Scalars are read beside the parts named here. Whoever uses the data cites it. Written by
`omnisky.observe.survey.markdown`; a test keeps it equal to the code.

"""


# --- reading rows -------------------------------------------------------------------------------------------------


def survey_row(name: str, row: Mapping[str, Any]) -> Survey:
    """A row from its TOML table. Raises UnknownKey and BadValue, which name the row."""
    values = _values(f"survey {name}", Survey, {key: value for key, value in row.items() if key != "mmu"})
    mmu = _mmu_row(f"survey {name}, mmu", row["mmu"]) if "mmu" in row else None
    for key in ("citation", "licence"):
        if not values.get(key):
            raise BadValue(f"survey {name}: no {key}", want="whom to thank, and on what terms")
    return Survey(name=name, **values, mmu=mmu)


def _mmu_row(where: str, row: Mapping[str, Any]) -> MmuRow:
    rest = {key: value for key, value in row.items() if key not in ("layout", "parts", "loaded")}
    if row.get("layout") not in [layout.value for layout in Layout]:
        want = tuple(layout.value for layout in Layout)
        raise BadValue(f"{where}: layout", saw=row.get("layout", "nothing"), want=want)
    parts, loaded = (
        tuple(part_row(f"{where}, {key}.{name}", name, part) for name, part in row.get(key, {}).items())
        for key in ("parts", "loaded")
    )
    return MmuRow(layout=Layout(row["layout"]), parts=parts, loaded=loaded, **_values(where, MmuRow, rest))


def part_row(where: str, name: str, row: Mapping[str, Any]) -> PartRow:
    """A part from its TOML table: `kind`, columns, and what there is to know about them.

    Raises UnknownKey and BadValue; `where` names the table in them.
    """
    if row.get("kind") not in _KINDS:
        raise BadValue(f"{where}: kind", saw=row.get("kind", "nothing"), want=tuple(_KINDS))
    kind = _KINDS[row["kind"]]
    knobs = {f.name for f in fields(PartRow)} - {"name", "kind", "columns"}
    # An image may have a column of pixel scales, or one scale for all: text is a column, a number is the scale.
    named = {key: value for key, value in row.items() if key in _FIELDS[kind] and not isinstance(value, float)}
    rest = {key: value for key, value in row.items() if key not in named and key != "kind"}
    unknown = set(rest) - knobs
    if unknown:
        want = tuple(sorted({*_FIELDS[kind], *knobs}))
        raise UnknownKey(where, saw=tuple(sorted(unknown)), want=want, hint="a spelling from the list")
    columns = {key: _words(f"{where}.{key}", value) for key, value in named.items()}
    return PartRow(name=name, kind=kind, columns=columns, **_values(where, PartRow, rest))


def part_table(row: PartRow) -> dict[str, Any]:
    """The table that `part_row` makes this row of; also good for JSON."""
    table: dict[str, Any] = {"kind": row.kind.__name__.lower()}
    table |= {key: list(names) for key, names in row.columns.items()}
    for knob in fields(row):
        value = getattr(row, knob.name)
        if knob.name not in ("name", "kind", "columns") and knob.name not in table and value != knob.default:
            table[knob.name] = list(value) if isinstance(value, tuple) else value
    return table


def _values(where: str, kind: type, row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass out of TOML: lists become tuples, integers floats where floats are meant."""
    types = {f.name: str(f.type) for f in fields(kind)}
    unknown = set(row) - set(types)
    if unknown:
        raise UnknownKey(where, saw=tuple(sorted(unknown)), want=tuple(types), hint="a spelling from the list")
    return {key: _value(f"{where}.{key}", types[key], value) for key, value in row.items()}


def _value(where: str, kind: str, value: Any) -> Any:
    if kind == "tuple[str, ...]":
        return _words(where, value)
    if kind == "tuple[float, ...]":
        return tuple(_value(where, "float", one) for one in (value if isinstance(value, list) else [value]))
    if kind.startswith("Mapping[str, ") and isinstance(value, dict):
        inner = kind.removeprefix("Mapping[str, ").removesuffix("]")
        return {key: _value(f"{where}.{key}", inner, one) for key, one in value.items()}
    if kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if type(value).__name__ == kind:
        return value
    raise BadValue(where, saw=repr(value), want=kind)


def _words(where: str, value: Any) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
        raise BadValue(where, saw=repr(value), want="a name, or a list of names")
    return tuple(words)
