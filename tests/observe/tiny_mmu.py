"""Tiny sets of the Multimodal Universe v1, laid out as its own scripts lay them out."""

from pathlib import Path

import h5py
import numpy as np
from astropy import units as u
from cdshealpix.nested import healpix_to_lonlat, lonlat_to_healpix

RNG = np.random.default_rng(31)


def middle(cell: int) -> tuple[float, float]:
    """The centre of a cell of nside 16, nested; deg."""
    lon, lat = healpix_to_lonlat(np.array([cell]), depth=4)
    return float(lon.to_value(u.deg)[0]), float(lat.to_value(u.deg)[0])


def cell_of(ra, dec, depth: int = 4) -> np.ndarray:
    lon, lat = np.atleast_1d(ra) * u.deg, np.atleast_1d(dec) * u.deg
    from astropy.coordinates import Latitude, Longitude

    return lonlat_to_healpix(Longitude(lon), Latitude(lat), depth).astype(np.int64)


def places(cell: int, n: int) -> dict[str, np.ndarray]:
    """n positions about the middle of a cell, and the cell: columns that every set has."""
    ra, dec = middle(cell)
    step = np.arange(n) * 1e-3
    return {"ra": ra + step, "dec": dec + step, "healpix": np.full(n, cell)}


def write(path: Path, columns: dict, **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            many = np.ndim(values) > 0
            file.create_dataset(name, data=values, **(how if many else {}))
    return path


def put(root: Path, cell: int, columns: dict, name: str = "001-of-001.hdf5", **how) -> Path:
    """One file of a table set, in its folder."""
    return write(root / f"healpix={cell}" / name, columns, **how)


def desi(cell: int, n: int, first: int = 0, pixels: int = 12) -> dict:
    """Contiguous columns; ids int64; spectrum_mask True = bad; ZWARN 0 = fine."""
    wave = (3600 + 0.8 * np.arange(pixels)).astype(np.float32)
    bad = np.zeros((n, pixels), dtype=bool)
    bad[:, 3] = True
    return {
        "object_id": 39627700000000000 + first + np.arange(n),
        **places(cell, n),
        "spectrum_flux": RNG.normal(size=(n, pixels)).astype(np.float32),
        "spectrum_ivar": np.full((n, pixels), 4, dtype=np.float32),
        "spectrum_lambda": np.tile(wave, (n, 1)),
        "spectrum_lsf_sigma": np.full((n, pixels), 1.2, dtype=np.float32),
        "spectrum_mask": bad,
        "spectrum_lsf": np.zeros((n, 11, pixels), dtype=np.float32),
        "Z": np.linspace(0, 1, n).astype(np.float64) + first,
        "EBV": np.full(n, 0.02, dtype=np.float32),
        "ZWARN": (np.arange(n) % 2) * 4,
        "SPECTYPE": np.array([b"GALAXY", b"QSO"] * n)[:n],
        "DESI_TARGET": np.full(n, 2**60 + 1, dtype=np.int64),
    }


def legacysurvey(cell: int, n: int, side: int = 6) -> dict:
    """lzf and automatic chunks; image_mask (N, H, W), True = good; 20 neighbours filled up with zeros."""
    good = np.ones((n, side, side), dtype=bool)
    good[:, 0, 0] = False
    lists = np.zeros((n, 20), dtype=np.float32)
    lists[:, :3] = [[5, -2, 1]] * n
    kinds = np.zeros((n, 20), dtype=np.int64)
    kinds[:, :3] = 1
    where = np.zeros((n, 20), dtype=np.float32)
    return {
        "object_id": np.array([f"{cell:04d}m002-{i}".encode() for i in range(n)], dtype="S16"),
        **places(cell, n),
        "image_band": np.array([[b"des-g", b"des-r", b"des-i", b"des-z"]] * n, dtype="S5"),
        "image_array": RNG.normal(size=(n, 4, side, side)).astype(np.float32),
        "image_ivar": RNG.uniform(size=(n, 4, side, side)).astype(np.float32),
        "image_mask": good,
        "image_psf_fwhm": np.full((n, 4), 1.3, dtype=np.float32),
        "image_scale": np.full((n, 4), 0.262, dtype=np.float32),
        "image_rgb": RNG.integers(0, 255, (n, side, side, 3), dtype=np.uint8),
        "blobmodel": RNG.integers(0, 255, (n, side, side, 3), dtype=np.uint8),
        "object_mask": RNG.integers(0, 3, (n, side, side), dtype=np.uint8),
        "catalog_FLUX_G": lists,
        "catalog_TYPE": kinds,
        "catalog_X": where,
        "catalog_Y": where,
        "EBV": np.full(n, 0.03, dtype=np.float32),
        "FLUX_R": np.arange(n, dtype=np.float32),
        "TYPE": np.array([b"REX"] * n),
    }


def sdss(cell: int, n: int, pixels: int, length: int) -> dict:
    """Spectra of one file padded to its longest: wavelength -1, flux repeated, ivar 0, mask True."""
    wave = np.full((n, length), -1, dtype=np.float32)
    wave[:, :pixels] = 10 ** (3.58 + 1e-4 * np.arange(pixels))
    flux = RNG.normal(size=(n, length)).astype(np.float32)
    flux[:, pixels:] = flux[:, pixels - 1 : pixels]
    ivar = np.zeros((n, length), dtype=np.float32)
    ivar[:, :pixels] = 1
    return {
        "object_id": np.array([f"{cell}{i}".encode() for i in range(n)]),
        **places(cell, n),
        "spectrum_flux": flux,
        "spectrum_ivar": ivar,
        "spectrum_lambda": wave,
        "spectrum_lsf_sigma": np.ones((n, length), dtype=np.float32),
        "spectrum_mask": wave < 0,
        "Z": np.full(n, 0.1, dtype=np.float32),
        "ZWARNING": np.array([0, 4] * n)[:n],
        "SPECTROFLUX": np.tile(np.arange(5, dtype=np.float32), (n, 1)),
    }


def supernova(root: Path, cell: int, name: str, folder: str = "", **change) -> Path:
    """One file per object, folders with four digits, bands in one text, (B, T) arrays padded with -99 and 0."""
    ra, dec = middle(cell)
    columns = {
        "object_id": name.encode(),
        "ra": np.float32(ra),
        "dec": np.float32(dec),
        "healpix": cell,
        "redshift": np.float32(0.03),
        "host_log_mass": np.float32(-999),
        "obj_type": b"Ia",
        "bands": "g,r",
        "time": np.array([[55002.5, 55000.5, -99], [55001.5, -99, -99]], dtype=np.float32),
        "flux": np.array([[100, -50, 0], [200, 0, 0]], dtype=np.float32),
        "flux_err": np.array([[10, 10, 0], [20, 0, 0]], dtype=np.float32),
    } | change
    return write(root / f"healpix={cell:04d}" / f"{name}.hdf5", columns)


def manga(root: Path, cell: int, names: list[str], side: int = 4, pixels: int = 5) -> Path:
    """One group per object, compound tables; spaxels row by row, bits: 1024 = do not use."""
    spaxel = np.dtype(
        [(key, "f4", (pixels,)) for key in ("flux", "ivar")]
        + [("mask", "i8", (pixels,)), ("lsf", "f4", (pixels,)), ("lambda", "f4", (pixels,))]
        + [("x", "i1"), ("y", "i1"), ("spaxel_idx", "i2"), ("flux_units", "S30")]
    )
    picture = np.dtype([("filter", "S5"), ("flux", "f4", (side, side)), ("scale", "f4")])
    a_map = np.dtype([("group", "S20"), ("label", "S20")] + [(k, "f4", (side, side)) for k in ("flux", "ivar", "mask")])
    path = root / f"healpix={cell}" / "001-of-001.hdf5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for k, name in enumerate(names):
            group = file.create_group(name)
            ra, dec = middle(cell)
            for key, value in (
                ("object_id", name),
                ("ra", ra + k * 1e-3),
                ("dec", dec),
                ("healpix", cell),
                ("z", 0.02),
            ):
                group.create_dataset(key, data=value)
            group.create_dataset("spaxel_size", data=0.5)
            group.create_dataset("spaxel_size_unit", data=b"arcsec")
            rows = np.zeros(side * side, dtype=spaxel)
            y, x = np.indices((side, side))
            rows["x"], rows["y"] = x.ravel(), y.ravel()
            rows["flux"] = rows["y"][:, None] * 100 + rows["x"][:, None] * 10 + np.arange(pixels)
            rows["ivar"] = 1
            rows["mask"][0] = 1024 | 3
            rows["mask"][1] = 3  # bits that do not mean bad
            rows["lambda"] = 3600 + np.arange(pixels)
            group.create_dataset("spaxels", data=rows)
            pictures = np.zeros(4, dtype=picture)
            pictures["filter"], pictures["scale"] = [b"g", b"r", b"i", b"z"], 0.5
            group.create_dataset("images", data=pictures)
            maps = np.zeros(2, dtype=a_map)
            maps["label"], maps["mask"][1] = [b"vel", b"sigma"], 2.0**30
            group.create_dataset("maps", data=maps)
    return path


def plasticc(cell: int, n: int = 2, epochs: int = 4) -> dict:
    """(N, 6, 3, T): time, flux, error of u g r i z; the plane of Y is never filled; padded with 0."""
    curve = np.zeros((n, 6, 3, epochs))
    for band in range(5):
        curve[:, band, 0, : epochs - 1] = 59600 + band + 10 * np.arange(epochs - 1)
        curve[:, band, 1, : epochs - 1] = -100
        curve[:, band, 2, : epochs - 1] = 20
    return {
        "object_id": np.arange(n) + 100 * cell,
        **places(cell, n),
        "lightcurve": curve,
        "hostgal_specz": np.full(n, -9.0),
        "obj_type": np.full(n, 90),
    }
