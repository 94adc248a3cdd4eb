"""HATS catalogues (Parquet files by HEALPix cell) as Observations: here, on Hugging Face or on a web server.

    gaia = Hats("hf://datasets/UniverseTBD/mmu_gaia_gaia/mmu_gaia_gaia", columns=("phot_g_mean_mag",))
    near = gaia.near(ra=150.1, dec=2.2, radius_deg=0.5).between("phot_g_mean_mag", 10, 15)
    for batch in near.batches(256): …

Nothing is read until it is needed, and then little: partitions by place; row groups by the ranges that Parquet keeps of
each column; of these the columns that decide first; the others only where an object is left. What columns mean is told
by the file, where Omnisky wrote it (`observe.hats_write`), else by the survey's row (`observe.nested`).

Format: IVOA Note "HATS: A Standard for the Hierarchical Adaptive Tiling Scheme in the Virtual Observatory" (2025).
Parquet has no fast random row, so this is no Source: write shards (`observe.shards`) to train from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from omnisky.errors import CorruptFile, ObservationError
from omnisky.observe.parquet import Parquet, opened, ranges_in
from omnisky.observe.place import DEPTH, Folder, folder_at, touch
from omnisky.observe.sky import cells
from omnisky.observe.types import Observation

_PIXEL = re.compile(r"Norder=(\d+)/Dir=\d+/Npix=(\d+)")
_INFO = "partition_info.csv"


@dataclass(frozen=True)
class Partition:
    """One cell's file or files."""

    order: int
    pixel: int

    @property
    def first(self) -> int:
        """Its first cell of order 29."""
        return self.pixel << 2 * (DEPTH - self.order)

    @property
    def last(self) -> int:
        return ((self.pixel + 1) << 2 * (DEPTH - self.order)) - 1

    @property
    def path(self) -> str:
        """As HATS has it, without the ending."""
        return f"Norder={self.order}/Dir={self.pixel // 10_000 * 10_000}/Npix={self.pixel}"


@dataclass(frozen=True, eq=False)
class Hats(Parquet):
    """A catalogue, or a selection of it; `path` is the folder or address of it or of the collection that it is in.

    Raises ObservationError, CorruptFile, MissingExtra, when it is first read.
    """

    @cached_property
    def root(self) -> Folder:
        """The folder of the catalogue itself."""
        folder = folder_at(self.path)
        if (folder / "collection.properties").exists():
            told = properties_in((folder / "collection.properties").text())
            name = told.get("hats_primary_table_url", "")
            if not name:
                raise CorruptFile(
                    f"{folder.name}/collection.properties", saw=tuple(told), want="hats_primary_table_url"
                )
            return folder / name
        if not any((folder / name).exists() for name in ("hats.properties", "properties", _INFO, "dataset")):
            raise ObservationError(
                f"no HATS catalogue in {folder.name}",
                want="collection.properties, hats.properties or a folder dataset",
                hint="the address of the catalogue or of its collection; check it for typos",
            )
        return folder

    @cached_property
    def properties(self) -> dict[str, str]:
        """What hats.properties says; empty without one."""
        found = [self.root / name for name in ("hats.properties", "properties")]
        return next((properties_in(one.text()) for one in found if one.exists()), {})

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the files."""
        for name in ("_common_metadata", "_metadata"):
            place = self.root / "dataset" / name
            if place.exists():
                return opened(place).schema_arrow
        if not self._every:
            raise CorruptFile(self.root.name, saw="no partitions", want="Parquet files")
        return opened(self._files_of(self._every[0])[0]).schema_arrow

    @property
    def files(self) -> list[Folder]:
        """Those of the partitions that the selection may have objects in."""
        return [file for partition in self.partitions for file in self._files_of(partition)]

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """Those that the selection may have objects in."""
        kept = self._every
        for region in self._regions:
            first, last = (np.array([getattr(one, end) for one in kept], dtype=np.int64) for end in ("first", "last"))
            inside = touch(region.stretches(), first, last)
            kept = tuple(one for one, there in zip(kept, inside.tolist(), strict=True) if there)
        return kept

    def batches_in(self, partition: Partition, size: int = 512) -> Iterator[Observation]:
        """The selection's objects in one partition, in the order of its file, `size` at a time; the last are fewer.

        However the file is cut into row groups, the same objects come together.
        """
        return self._even(
            (table for place in self._files_of(partition) for table in self._tables_of(place, size)), size
        )

    def raw(self, columns: Sequence[str], size: int = 1 << 16) -> Iterator[pa.RecordBatch]:
        """Columns as they stand in the files, of all rows in their order, at most `size` at a time."""
        for place in self.files:
            try:
                yield from opened(place).iter_batches(size, columns=list(columns))
            except (OSError, pa.ArrowException) as error:
                raise CorruptFile(place.name, saw=error, want="a complete Parquet file") from error

    @property
    def position(self) -> tuple[str, str]:
        """The columns of right ascension and declination."""
        return self.properties.get("hats_col_ra", "ra"), self.properties.get("hats_col_dec", "dec")

    @cached_property
    def _every(self) -> tuple[Partition, ...]:
        info = self.root / _INFO
        if info.exists():
            return _partition_info(info)
        found = (_PIXEL.search(path) for path in (self.root / "dataset").files())
        pixels = {Partition(int(one[1]), int(one[2])) for one in found if one}
        return tuple(sorted(pixels, key=lambda one: one.first))

    def _files_of(self, partition: Partition) -> list[Folder]:
        suffix = self.properties.get("hats_npix_suffix", ".parquet")
        place = self.root / "dataset" / partition.path
        if suffix == "/":
            return [place / name for name in place.files() if not name.startswith(("_", "."))]
        return [Folder(place.system, place.path + suffix, place.name + suffix)]

    # --- what the properties say of the columns ---

    @property
    def _names(self) -> list[str]:
        return [self.properties.get("obs_collection", ""), self.root.path.rstrip("/").rpartition("/")[2]]

    @property
    def _described(self) -> bool:
        return True

    @property
    def _place(self) -> tuple[str, ...]:
        return self.position

    @property
    def _cell(self) -> str:
        return self.properties.get("hats_col_healpix", "_healpix_29")

    # --- who is in the selection ---

    def _may_hold(self, group: Any) -> bool:
        if not super()._may_hold(group):
            return False
        ranges = ranges_in(group)
        if self._cell not in ranges or self.properties.get("hats_col_healpix_order", str(DEPTH)) != str(DEPTH):
            return True
        low, high = (np.array([end], dtype=np.int64) for end in ranges[self._cell])
        return all(touch(region.stretches(), low, high)[0] for region in self._regions)

    def _on_the_spot(self, table: pa.Table) -> Bool[np.ndarray, " object"]:
        ra, dec = (table.column(name).to_numpy().astype(np.float64) for name in self._place)
        known = self._cell in table.column_names and not table.column(self._cell).null_count
        if known and self.properties.get("hats_col_healpix_order", str(DEPTH)) == str(DEPTH):
            cell = table.column(self._cell).to_numpy()
        else:
            cell = cells(Observation(np.zeros(len(ra), dtype=np.str_), ra, dec), DEPTH)
        return np.logical_and.reduce([region.holds(ra, dec, cell) for region in self._regions])


def is_hats(path: str | Path) -> bool:
    """True for folders and addresses that hold a HATS catalogue."""
    folder = folder_at(path)
    named = ("collection.properties", "hats.properties", _INFO)
    return any((folder / name).exists() for name in named)


def _partition_info(place: Folder) -> tuple[Partition, ...]:
    header, *lines = [line.split(",") for line in place.text().split()]
    try:
        order, pixel = header.index("Norder"), header.index("Npix")
        found = {Partition(int(line[order]), int(line[pixel])) for line in lines}
    except (ValueError, IndexError) as error:
        raise CorruptFile(place.name, saw=error, want="columns Norder and Npix of whole numbers") from error
    return tuple(sorted(found, key=lambda one: one.first))


def properties_in(text: str) -> dict[str, str]:
    """The lines key=value of a .properties file."""
    lines = (line.partition("=") for line in text.splitlines() if line.strip() and not line.startswith(("#", "!")))
    return {key.strip(): value.strip() for key, _, value in lines}
