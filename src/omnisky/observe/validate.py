"""Is this data what it says it is? All is read once, block by block, and each check that fails says what to try.

    report = validate("healpix_survey/")
    report.ok, report.findings, report.summaries

Asked of objects: ids unique and text, positions on the sky and in double precision. Of measurements (`observe.checks`):
finite where good, inverse variances, flags with the useful side True, rising wavelengths and times in their units, no
padding left, nothing constant or never filled, one size. Of files: cells in the path agree with the positions, hashes
agree with the manifest.

Of sets in HDF5 cells, HATS, Parquet and shards no more than a block is in memory, and 8 bytes for each id. What is read
at once anyway (npz, FITS, pictures, catalogues in text) is held as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from omnisky.errors import ObservationError
from omnisky.observe.checks import PartCheck
from omnisky.observe.files import file_findings
from omnisky.observe.finding import Finding, Offenders, Report
from omnisky.observe.loader import Source
from omnisky.observe.mmu import MMUHdf5
from omnisky.observe.mmu_files import is_cells
from omnisky.observe.parquet import Parquet, opened
from omnisky.observe.place import Folder
from omnisky.observe.read import scan
from omnisky.observe.scan import as_source
from omnisky.observe.types import Observation

BATCH = 128
"""objects at a time: some 200 MB of images of four bands with inverse variances"""

_THROUGH_BYTES = re.compile(r"""^b(['"]).*\1$""")
_THROUGH_FLOAT = re.compile(r"^\d+(\.\d+)?e\+\d+$|^\d{6,}\.0$", re.IGNORECASE)


def validate(
    what: str | Path | Source,
    *,
    survey: str = "",
    batch: int = BATCH,
    watch: Callable[[int, int], None] | None = None,
) -> Report:
    """All checks of a file, a folder, or anything with `len` and `take`. `watch` is told (done, in all).

    What cannot be read is a finding too, and the rest is looked at all the same. Sets of the Multimodal Universe are
    read file by file; `survey` is their row of `observe.survey`, where the path does not name it. Raises
    ObservationError where there is nothing at all, MissingExtra.
    """
    if not isinstance(what, str | Path):
        return _report(type(what).__name__, [_Taken("", what)], [], batch, watch)
    if "://" not in str(what) and not Path(what).expanduser().exists():
        raise ObservationError("nothing there", saw=what, want="a file or folder", hint="check the path for typos")
    findings = [] if "://" in str(what) else list(file_findings(Path(what).expanduser()))
    pieces: list[_Piece] = []
    try:
        pieces, broken = _pieces(what, survey)
        # What is wrong with a file may have shown already where its positions were looked at.
        known = {finding.where for finding in findings if finding.check == "readable"}
        findings += [_unreadable(str(what), error) for error in broken if not any(one in str(error) for one in known)]
    except ObservationError as error:
        findings.append(_unreadable(str(what), error))
    return _report(str(what), pieces, findings, batch, watch)


@dataclass(frozen=True)
class _Block:
    """Some objects that come one after the other, or why they cannot be read."""

    start: int
    objects: int
    seen: Observation | Finding


@dataclass(frozen=True)
class _Taken:
    """Rows that can be taken: a block that cannot be read says nothing of the next."""

    where: str
    """a file; empty if it is all there is"""
    source: Source

    @property
    def objects(self) -> int:
        return len(self.source)

    def blocks(self, size: int) -> Iterator[_Block]:
        for start in range(0, self.objects, size):
            rows = np.arange(start, min(start + size, self.objects))
            try:
                yield _Block(start, len(rows), self.source.take(rows))
            except ObservationError as error:
                where = f"{self.where}, rows {start} … {rows[-1]}".lstrip(", ")
                yield _Block(start, len(rows), _unreadable(where, error))

    def id_at(self, row: int) -> str:
        return str(self.source.take(np.array([row])).object_id[0])


@dataclass(frozen=True)
class _Streamed:
    """One Parquet file, from its first row on: what cannot be read ends it, and the next file is looked at."""

    scan: Parquet
    file: Folder

    @property
    def where(self) -> str:
        return self.file.name

    @cached_property
    def objects(self) -> int:
        try:
            return int(opened(self.file).metadata.num_rows)
        except ObservationError:  # which is said when its blocks are asked for
            return 0

    def blocks(self, size: int) -> Iterator[_Block]:
        start = 0
        try:
            for seen in self.scan.batches_of(self.file, size):
                yield _Block(start, len(seen), seen)
                start += len(seen)
        except ObservationError as error:
            yield _Block(start, 0, _unreadable(f"{self.where}, from row {start} on" if start else self.where, error))

    def id_at(self, row: int) -> str:
        for block in replace(self, scan=replace(self.scan, parts=(), columns=())).blocks(4096):
            if isinstance(block.seen, Observation) and row < block.start + block.objects:
                return str(block.seen.object_id[row - block.start])
        raise ObservationError(f"{self.where}: row {row} is gone", want="a file that nobody writes to")


_Piece = _Taken | _Streamed
"""what is read on its own, so that it can fail on its own"""


def _pieces(what: str | Path, survey: str) -> tuple[list[_Piece], list[ObservationError]]:
    """Of a path; and what is wrong with those that cannot be opened."""
    path = Path(what).expanduser()
    if "://" not in str(what) and is_cells(path):
        sets, broken = MMUHdf5(path, survey=survey).by_file()
        return [_Taken(str(one.path), one) for one in sets], broken
    found = scan(what, survey=survey)
    if isinstance(found, Parquet):
        return [_Streamed(found, file) for file in found.files], []
    return [_Taken("", as_source(found))], []


def _report(
    what: str, pieces: list[_Piece], findings: list[Finding], batch: int, watch: Callable[[int, int], None] | None
) -> Report:
    core, parts = _Core(), dict[str, PartCheck]()
    known = {finding.where for finding in findings if finding.check == "readable"}
    total, done, before = sum(piece.objects for piece in pieces) if watch else 0, 0, 0
    for piece in pieces:
        said: dict[str, Finding] = {}
        end = 0
        for block in piece.blocks(batch):
            end = block.start + block.objects
            if isinstance(block.seen, Finding):  # named, once; and the rest is looked at all the same
                said.setdefault(block.seen.saw, block.seen)
                continue
            core.add(block.seen, piece, block.start)
            for name in block.seen.parts:
                parts.setdefault(name, PartCheck(name)).add(block.seen)
            done += block.objects
            if watch is not None:
                watch(before + end, total)
        findings += [one for one in said.values() if one.where not in known]
        before += end
    findings += core.findings()
    findings += [finding for part in parts.values() for finding in part.findings()]
    if not done and not findings:
        findings.append(Finding(check="objects", where=what, saw="none", want="at least one"))
    return Report(
        what=what,
        objects=done,
        findings=tuple(sorted(findings, key=lambda finding: not finding.serious)),
        summaries=tuple(summary for part in parts.values() for summary in part.summaries()),
    )


def _unreadable(where: str, error: ObservationError) -> Finding:
    said = f"{type(error).__name__}: {error}"
    return Finding(check="readable", where=where, saw=said, want=str(error.want or "data we can read"), hint=error.hint)


@dataclass
class _Core:
    """Ids and positions of all objects."""

    hashes: list[np.ndarray] = field(default_factory=list)
    """of the ids, block by block"""
    places: list[tuple[_Piece, int]] = field(default_factory=list)
    """where each block begins"""
    nameless: Offenders = field(default_factory=Offenders)
    bytes_ids: Offenders = field(default_factory=Offenders)
    float_ids: Offenders = field(default_factory=Offenders)
    off_sky: Offenders = field(default_factory=Offenders)
    half_known: Offenders = field(default_factory=Offenders)
    at_zero: Offenders = field(default_factory=Offenders)
    unknown: int = 0
    known: int = 0
    single: bool = True
    """True as long as all positions survive float32, and not because they are round numbers"""
    round_numbers: bool = True
    dtypes: set[str] = field(default_factory=set)

    def add(self, seen: Observation, piece: _Piece, start: int) -> None:
        ids = seen.object_id
        if ids.dtype.kind != "U":
            self.dtypes.add(f"object_id {ids.dtype}")
        names = [str(name) for name in ids.tolist()]
        self.hashes.append(np.fromiter(map(hash, names), dtype=np.int64, count=len(names)))
        self.places.append((piece, start))
        self.nameless.add(_each(names, lambda name: not name.strip() or name.lower() in ("nan", "none")), ids)
        self.bytes_ids.add(_each(names, lambda name: bool(_THROUGH_BYTES.match(name))), ids)
        self.float_ids.add(_each(names, lambda name: bool(_THROUGH_FLOAT.match(name))), ids)
        self._add_positions(seen)

    def _add_positions(self, seen: Observation) -> None:
        for name in ("ra", "dec"):
            if getattr(seen, name).dtype != np.float64:
                self.dtypes.add(f"{name} {getattr(seen, name).dtype}")
        ra, dec = seen.ra, seen.dec
        known = ~np.isnan(ra) & ~np.isnan(dec)
        with np.errstate(invalid="ignore"):
            on_sky = (ra >= 0) & (ra < 360) & (abs(dec) <= 90)
        self.off_sky.add(known & ~on_sky, seen.object_id)
        self.half_known.add(np.isnan(ra) != np.isnan(dec), seen.object_id)
        self.at_zero.add(known & (ra == 0) & (dec == 0), seen.object_id)
        self.known, self.unknown = (
            self.known + int(known.sum()),
            self.unknown + int((np.isnan(ra) & np.isnan(dec)).sum()),
        )
        degrees = np.concatenate([ra[known & on_sky], dec[known & on_sky]])
        self.single &= bool((degrees == degrees.astype(np.float32)).all())
        self.round_numbers &= bool((degrees * 64 % 1 == 0).all())

    def findings(self) -> Iterator[Finding]:
        yield from self._of_ids()
        yield from self._of_positions()

    def _of_ids(self) -> Iterator[Finding]:
        for said in sorted(self.dtypes):
            want = "object_id text, ra and dec float64"
            hint = "Observation.of(ids, ra, dec) sees to it; in float32, degrees are off by up to 0.055 arcsec"
            yield Finding(check="types", where=said.split()[0], saw=said, want=want, hint=hint)
        for offenders, saw, hint in (
            (self.nameless, "empty", ""),
            (self.bytes_ids, "bytes spelled out", "decode bytes, do not str() them"),
            (self.float_ids, "numbers that went through a float", "read ids as text or 64-bit integers"),
        ):
            if offenders.count:
                yield Finding(
                    check="ids", where="object_id", saw=f"{saw}, {offenders}", want="names as text", hint=hint
                )
        if not self.hashes:
            return
        _, first, count = np.unique(np.concatenate(self.hashes), return_index=True, return_counts=True)
        if (count > 1).any():
            names = ", ".join(self._name(at) for at in np.sort(first[count > 1])[:3].tolist())
            saw = f"{(count > 1).sum()} ids more than once: {names}"
            hint = "the same object read twice, or ids of several surveys without a prefix?"
            yield Finding(check="ids unique", where="object_id", saw=saw, want="each id once", hint=hint)

    def _name(self, at: int) -> str:
        """Of the object that was added as number `at`."""
        ends = np.cumsum([len(block) for block in self.hashes])
        block = int(np.searchsorted(ends, at, side="right"))
        piece, start = self.places[block]
        return piece.id_at(start + at - int(ends[block]) + len(self.hashes[block]))

    def _of_positions(self) -> Iterator[Finding]:
        if self.off_sky.count:
            want = "0 ≤ ra < 360 and −90 ≤ dec ≤ 90 deg, finite; NaN if not known"
            yield Finding(
                check="positions", where="ra, dec", saw=str(self.off_sky), want=want, hint="ra % 360; swapped?"
            )
        if self.half_known.count:
            yield Finding(check="positions", where="ra, dec", saw=f"one of two, {self.half_known}", want="both or none")
        if self.at_zero.count > 1:
            hint = "NaN if (0, 0) stands for not known"
            yield Finding(
                check="positions", where="ra, dec", saw=f"(0, 0), {self.at_zero}", want="a place each", hint=hint
            )
        if self.known and self.unknown:
            saw = f"{self.unknown} of {self.known + self.unknown} objects without position"
            yield Finding(check="positions", where="ra, dec", saw=saw, want="all or none", serious=False)
        if self.known >= 20 and self.single and not self.round_numbers:
            saw = "positions that were rounded to float32: off by up to 0.055 arcsec"
            hint = "take float64 columns, if the source has them"
            yield Finding(check="precision", where="ra, dec", saw=saw, want="float64", hint=hint, serious=False)


def _each(names: list[str], wrong: Callable[[str], bool]) -> Bool[np.ndarray, " object"]:
    return np.fromiter(map(wrong, names), dtype=bool, count=len(names))
