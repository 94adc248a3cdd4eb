"""What an index becomes for the page: read back here as the page reads it."""

import json
import re
import threading
import urllib.request
from dataclasses import replace
from importlib.resources import files
from io import BytesIO
from urllib.error import HTTPError

import numpy as np
import pytest

from omnisky.cli.explore import explore
from omnisky.embed import Embedding
from omnisky.errors import BadValue, CorruptFile, StorageError
from omnisky.observe.types import Image, Labels, Observation, Scalars, Spectrum
from omnisky.search import Index
from omnisky.search.flat import FlatMap
from omnisky.serve.explore import Sky, morton, write_sky
from omnisky.serve.looks import CHUNK, SHEET, THUMB_PX, Pictures
from omnisky.serve.site import (
    ALADIN,
    _coarser,
    add_aladin,
    copy_site,
    is_site,
    open_index,
    refresh,
    server,
    write_site,
)

pytest.importorskip("PIL")
WIDTH = 16


def objects(n: int = 70, seed: int = 0) -> tuple[Index, Observation]:
    """Blobs and straight lines with noise; the last object has no spectrum, the first no image; ids beyond 2⁵³."""
    draw = np.random.default_rng(seed)
    ids = [str(39627000000000000 + i) for i in range(n)]
    ra, dec = draw.uniform(0, 360, n), draw.uniform(-80, 80, n)
    y, x = np.mgrid[:48, :48] - 23.5
    blob = np.exp(-(x**2 + y**2) / 40)
    flux = (draw.uniform(1, 30, n)[:, None, None, None] * blob + draw.normal(0, 0.1, (n, 3, 48, 48))).astype(np.float32)
    wave = np.tile(np.linspace(3600, 9800, 300), (n, 1))
    lines = (draw.uniform(1, 5, (n, 1)) * wave / 6000 + draw.normal(0, 0.2, wave.shape)).astype(np.float32)
    z = draw.uniform(0, 0.5, n)
    z[1] = np.nan
    present = np.arange(n) > 0
    seen = Observation.of(
        ids,
        ra,
        dec,
        image=Image(flux=flux, bands=("g", "r", "z"), pixel_scale_arcsec=0.262, present=present),
        spectrum=Spectrum(flux=lines, wavelength_aa=wave, present=np.arange(n) < n - 1),
        scalars=Scalars(values=np.stack([z, draw.integers(0, 2, n)], 1), names=("redshift", "is_star"), units=("", "")),
        words=Labels(columns={"kind": np.array(["round", "flat"])[np.arange(n) % 2]}),
    )
    vectors = draw.normal(size=(n, WIDTH)).astype(np.float32)
    sides = {
        name: Embedding(
            (vectors + 0.3 * draw.normal(size=vectors.shape)).astype(np.float32), seen.object_id, ra, dec, "signed"
        )
        for name in ("image", "spectrum")
    }
    sides["spectrum"] = sides["spectrum"].take(slice(0, n - 1))
    return Index(sides), seen


def plane(n: int) -> FlatMap:
    """No UMAP: it takes longer than all of this."""
    return FlatMap(np.random.default_rng(3).normal(size=(n, 2)).astype(np.float32), "by chance")


class Read:
    """As data.js reads it."""

    def __init__(self, folder):
        self.folder = folder
        self.about = json.loads((folder / "sky.json").read_text())
        self.ids = (folder / "ids.txt").read_text().split("\n")
        data = (folder / "columns.bin").read_bytes()
        count = self.about["count"]
        self.columns = {
            row["name"]: np.frombuffer(data, f"<{row['type']}", count, row["offset"]) for row in self.about["columns"]
        }
        assert all(row["offset"] % 8 == 0 for row in self.about["columns"])

    def blob(self, what: str, row: int) -> bytes:
        data = (self.folder / what / f"{row // CHUNK}.bin").read_bytes()
        ends = np.frombuffer(data, "<u4", CHUNK + 1)
        at = 4 * (CHUNK + 1)
        return data[at + ends[row % CHUNK] : at + ends[row % CHUNK + 1]]

    def vectors(self, name: str) -> np.ndarray:
        side = next(one for one in self.about["sides"] if one["name"] == name)
        data, count = (self.folder / side["file"]).read_bytes(), self.about["count"]
        scale = np.frombuffer(data, "<f4", count)
        return scale[:, None] * np.frombuffer(data, np.int8, offset=4 * count).reshape(count, side["width"])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    index, seen = objects()
    # In another order, with a stranger among them: rows are found by id.
    mixed = seen.take(np.random.default_rng(1).permutation(len(seen)))
    sky = Sky(name="sky", title="Toys", index=index, seen=mixed, flat=plane(len(index)))
    folder = write_sky(tmp_path_factory.mktemp("sky") / "sky", sky)
    return index, seen, Read(folder)


def test_the_page_asks_for_all_its_modules_at_once():
    web = files("omnisky.serve") / "web"
    page = (web / "index.html").read_text()
    modules = {one.name for one in web.iterdir() if one.name.endswith(".js")} - {"main.js", "search.worker.js"}
    assert set(re.findall(r'modulepreload" href="(\w+\.js)"', page)) == modules
    assert all(len((web / name).read_text().splitlines()) <= 250 for name in modules | {"main.js"})


def test_columns_come_back_by_id(made):
    _, seen, read = made
    assert sorted(read.ids) == sorted(seen.object_id.tolist()) and set(map(type, read.ids)) == {str}
    back = [seen.object_id.tolist().index(name) for name in read.ids]
    np.testing.assert_array_equal(read.columns["ra"], seen.ra[back])
    np.testing.assert_array_equal(read.columns["redshift"], seen["scalars"]["redshift"][back].astype(np.float32))
    names = {row["name"]: row.get("names") for row in read.about["columns"]}
    assert names["is_star"] == ["no", "yes"]
    said = np.asarray(names["kind"])[read.columns["kind"]]
    np.testing.assert_array_equal(said, seen["words"]["kind"][back])
    assert np.abs([read.columns["map x"], read.columns["map y"]]).max() <= 1


def test_cosines_of_bytes_are_those_of_the_index(made):
    """Nearest of nearest: the ten of the page are the ten of `Index`, but for ties closer than the rounding."""
    index, _, read = made
    images, spectra = read.vectors("image"), read.vectors("spectrum")
    lacks = read.ids.index("39627000000000069")
    assert (spectra[lacks] == 0).all() and (np.abs(images).sum(1) > 0).all()
    for row in (0, 7, 33):
        found = index.like_ids([read.ids[row]], 10, by="image", across="spectrum")
        similarity = spectra @ images[row]
        similarity[lacks] = -2
        order = similarity.argsort()[::-1][:10]
        np.testing.assert_allclose(similarity[order], found.similarity[0], atol=0.01)
        assert len({read.ids[i] for i in order} & set(found.object_id[0].tolist())) >= 9


def test_pictures_decode_to_flux_and_absent_ones_are_empty(made):
    from PIL import Image as Pillow

    _, seen, read = made
    about = read.about["picture"]
    assert about["rgb"] == [2, 1, 0] and about["scale"] == 0.262
    for row in (3, 40):
        truth = seen["image"].flux[seen.object_id.tolist().index(read.ids[row])]
        stack = np.asarray(Pillow.open(BytesIO(read.blob("cutouts", row))), dtype=np.float32).reshape(3, 48, 48)
        for band, plane in enumerate(about["planes"]):
            flux = plane["noise"] * np.sinh(plane["low"] + (plane["high"] - plane["low"]) * stack[band] / 255)
            off = np.abs(flux - truth[band]) / np.hypot(plane["noise"], 0.1 * np.abs(truth[band]))
            assert np.median(off) < 1  # JPEG at 88 over noise: less than the noise itself
    assert read.blob("cutouts", read.ids.index("39627000000000000")) == b""
    sheet = np.asarray(Pillow.open(read.folder / "thumbs" / "0.jpg"))
    assert sheet.shape == (SHEET * THUMB_PX, SHEET * THUMB_PX, 3)
    middle = sheet[THUMB_PX // 2, THUMB_PX * 5 + THUMB_PX // 2]
    assert middle.max() > 3 * sheet[2, THUMB_PX * 5 + 2].max()  # a bright middle on a dark sky


def test_spectra_come_back_in_bins(made):
    _, seen, read = made
    about = read.about["spectrum"]
    truth = seen["spectrum"].flux[seen.object_id.tolist().index(read.ids[5])]
    data = read.blob("spectra", 5)
    values = np.frombuffer(data, "<i2", offset=4)
    assert len(values) == about["count"]
    flux = values * np.frombuffer(data, "<f4", 1)[0]
    known = values != -32768
    wave = about["start"] + (np.arange(len(flux)) + 0.5) * about["step"]
    np.testing.assert_allclose(flux[known], np.interp(wave[known], seen["spectrum"].wavelength_aa[0], truth), atol=1.5)
    np.testing.assert_allclose(flux[known].mean(), truth.mean(), rtol=0.01)
    assert read.blob("spectra", read.ids.index("39627000000000069")) == b""


def test_display_pictures_stay_as_they_are(tmp_path):
    draw = np.random.default_rng(0)
    flux = draw.integers(0, 255, (5, 3, 20, 20)).astype(np.uint8)
    pictures = Pictures(Image(flux=flux, bands=("red", "green", "blue"), unit="display"))
    assert pictures.rgb == [0, 1, 2] and pictures.state()["display"]
    assert pictures.thumbs(np.full((1, 3, 20, 20), 200, np.uint8)).mean() == 200


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_few_objects_are_a_sky_too(tmp_path, n):
    _, seen = objects(max(n, 2))
    vectors = np.eye(n, 5, dtype=np.float32)
    few = Index(Embedding(vectors, seen.object_id[:n], seen.ra[:n], seen.dec[:n], "s"), centred=False)
    read = Read(write_sky(tmp_path / "sky", Sky(name="few", title="", index=few)))
    assert len(read.ids) == n and "picture" not in read.about


def test_neighbours_on_the_map_are_neighbours_in_the_files():
    draw = np.random.default_rng(0)
    plane = draw.uniform(-1, 1, (4096, 2)).astype(np.float32)
    there = plane[morton(plane)]
    steps = np.hypot(*np.diff(there, axis=0).T)
    assert sorted(morton(plane).tolist()) == list(range(4096))
    assert np.median(steps) < 0.05  # by chance it is 1


def test_bad_names_and_ids_are_refused(tmp_path):
    index, _ = objects(4)
    with pytest.raises(BadValue, match="letters"):
        Sky(name="../up", title="", index=index)
    broken = replace(index.objects, object_id=np.array(["a\nb", "c", "d", "e"]))
    index.objects = broken
    with pytest.raises(BadValue, match="line break"):
        write_sky(tmp_path / "sky", Sky(name="sky", title="", index=index))
    assert not (tmp_path / "sky").exists()
    with pytest.raises(BadValue, match="its own name"):
        write_site(tmp_path, [Sky(name="a", title="", index=index), Sky(name="a", title="", index=index)])


def test_a_site_is_served_and_moved(tmp_path):
    index, seen = objects(20)
    toys = Sky(name="toys", title="Toys", index=index, seen=seen, flat=plane(20))
    site = write_site(tmp_path / "explorer", [toys])
    assert is_site(site) and not is_site(tmp_path)
    moved = copy_site(site, tmp_path / "moved")
    listening = server(moved, 0)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{listening.server_port}"
    try:
        kinds = {"": "text/html", "main.js": "text/javascript", "data/toys/sky.json": "application/json"}
        for file, kind in kinds.items():
            with urllib.request.urlopen(f"{address}/{file}") as answer:
                assert answer.headers["Content-Type"].startswith(kind)
        with pytest.raises(HTTPError, match="404"):
            urllib.request.urlopen(f"{address}/..%2f..%2fetc/passwd")
        with pytest.raises(StorageError, match="port"):
            server(moved, listening.server_port)
    finally:
        listening.shutdown()
        listening.server_close()
    about = site / "data" / "toys" / "sky.json"
    about.write_text(about.read_text().replace('"format": 1', '"format": 0'))
    with pytest.raises(CorruptFile, match="format"):
        is_site(site)


def test_aladin_lite_stays_with_the_site_it_was_given_to(tmp_path):
    index, _ = objects(5)
    site = write_site(tmp_path / "site", [Sky(name="toys", title="Toys", index=index, flat=plane(5))])
    assert json.loads((site / "site.json").read_text()) == {"aladin": False}
    with pytest.raises(StorageError, match="npm pack aladin-lite"):
        add_aladin(site, tmp_path / "aladin.js")
    (tmp_path / "aladin.js").write_text("export default {}")
    add_aladin(site, tmp_path / "aladin.js")
    refresh(site)
    moved = copy_site(site, tmp_path / "moved")
    assert json.loads((moved / "site.json").read_text()) == {"aladin": True}
    assert (moved / ALADIN).read_text() == "export default {}"


def test_a_folder_of_embeddings_is_opened_as_what_it_is(tmp_path):
    index, seen = objects(20)
    one = Embedding(np.eye(20, 8, dtype=np.float32), seen.object_id, seen.ra, seen.dec, "s")
    one.save(tmp_path / "image.parquet")
    one.save(tmp_path / "spectrum.parquet")
    assert set(open_index(tmp_path).sides) == {"image", "spectrum"}
    assert set(open_index(tmp_path, ["seen=image.parquet"]).sides) == {"seen"}
    index.save(tmp_path / "made")
    assert len(open_index(tmp_path / "made")) == 20
    with pytest.raises(BadValue, match="no embeddings"):
        open_index(tmp_path / "nothing")
    with pytest.raises(BadValue, match="NAME=FILE"):
        open_index(tmp_path, ["image.parquet"])
    one.save(tmp_path / "table" / "image.fits")
    assert set(open_index(tmp_path / "table").sides) == {"image"}
    assert set(open_index(tmp_path / "table" / "image.fits").sides) == {"embedding"}
    one.save(tmp_path / "table" / "image.parquet")
    with pytest.raises(BadValue, match="NAME=FILE"):
        open_index(tmp_path / "table")


def test_the_map_is_made_again_when_it_would_show_something_else(tmp_path):
    """Other embeddings, or other data, title or sides than before; what is not asked for stays as it was."""
    _, seen = objects(20)
    one = Embedding(np.eye(20, 8, dtype=np.float32), seen.object_id, seen.ra, seen.dec, "s")
    one.save(tmp_path / "image.parquet")
    note = tmp_path / "explorer" / "made-of.json"

    def shown(*words: str) -> tuple[str, int, int]:
        explore(tmp_path, static=tmp_path / "out", **dict(word.split("=") for word in words))
        about = json.loads((tmp_path / "out" / "data" / "sky" / "sky.json").read_text())
        return about["title"], about["count"], note.stat().st_mtime_ns

    first = shown("title=Toys")
    assert first[:2] == ("Toys", 20) and shown() == first
    one.take(slice(0, 12)).save(tmp_path / "image.parquet")
    assert shown()[:2] == ("Toys", 12)
    assert shown("title=Games")[:2] == ("Games", 12)


def test_nothing_on_the_page_comes_from_elsewhere():
    """No address outside the site, but for the names of XML spaces; and all of it is small."""
    web = files("omnisky.serve") / "web"
    for file in web.iterdir():
        if file.is_file():
            found = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'<`]*", file.read_text(encoding="utf-8")))
            assert not {one for one in found if "w3.org" not in one and "ivoa.net" not in one}, file.name
    vendor = list((web / "vendor").iterdir())
    assert sum(len(one.read_bytes()) for one in vendor) < 500_000
    assert "MIT" in (web / "vendor" / "LICENSES.txt").read_text()


def test_a_large_upload_is_drawn_in_coarser_pixels():
    """Not sixteen million numbers of JSON: the same field, and as bright a square arcsecond."""
    flux = np.ones((1, 2, 1000, 1400), np.float32)
    seen = _coarser(Image(flux=flux, bands=("g", "r"), pixel_scale_arcsec=0.2))
    assert seen.flux.shape == (1, 2, 334, 467) and seen.pixel_scale_arcsec == pytest.approx(0.6)
    assert (seen.flux == 9).all()
    small = Image(flux=flux[..., :40, :40].astype(np.uint8), bands=("g", "r"), unit="display")
    np.testing.assert_array_equal(_coarser(small).flux, small.flux)
    wave = np.linspace(3600, 9800, 20_000)[None]
    thin = _coarser(Spectrum(flux=wave.astype(np.float32), wavelength_aa=wave))
    assert thin.flux.shape == (1, 6667) and np.allclose(thin.flux, thin.wavelength_aa)
