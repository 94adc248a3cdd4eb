"""hf:// addresses by Hugging Face's own file system, against a server on this machine that answers as the Hub does."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent
from urllib.parse import parse_qs, unquote, urlparse

import numpy as np
import pytest
from test_hats import sky

from omnisky.observe.hats_write import write_hats
from omnisky.observe.types import Observation

pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
REPO = "someone/sky"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """The four questions that HfFileSystem asks of a data set: is it there, what is in a folder, these paths, bytes."""

    folder: Path
    asked: list[tuple[str, str]]

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def do_POST(self):
        size = int(self.headers.get("Content-Length", 0))
        told = parse_qs(self.rfile.read(size).decode())
        self.answer(told.get("paths", []))

    def answer(self, paths=()):
        place = unquote(urlparse(self.path).path)
        self.asked.append((place, self.headers.get("Range", "")))
        api, tree, info, file = (
            *(f"/api/datasets/{REPO}", f"/api/datasets/{REPO}/tree/", f"/api/datasets/{REPO}/paths-info/"),
            f"/datasets/{REPO}/resolve/",
        )
        if place.startswith(tree):
            self.tree(place.removeprefix(tree).partition("/")[2], "recursive=true" in self.path.lower())
        elif place.startswith(info):
            self.json([self.entry(self.folder / one) for one in paths if (self.folder / one).exists()])
        elif place.startswith(file):
            self.bytes(self.folder / place.removeprefix(file).partition("/")[2])
        elif place == api or place.startswith(f"{api}/revision/"):
            self.json({"id": REPO, "sha": COMMIT, "private": False, "tags": [], "downloads": 0, "likes": 0})
        else:
            self.missing("RepoNotFound")

    def tree(self, name, recursive):
        folder = self.folder / name
        if not folder.is_dir():
            return self.missing("EntryNotFound")
        self.json([self.entry(one) for one in sorted(folder.rglob("*") if recursive else folder.iterdir())])

    def entry(self, path):
        kind = {"type": "directory"} if path.is_dir() else {"type": "file", "size": path.stat().st_size}
        return kind | {"oid": COMMIT, "path": path.relative_to(self.folder).as_posix()}

    def bytes(self, path):
        if not path.is_file():
            return self.missing("EntryNotFound")
        content = path.read_bytes()
        wanted = self.headers.get("Range", "")
        start, end = 0, len(content)
        if wanted:
            low, _, high = wanted.removeprefix("bytes=").partition("-")
            start, end = int(low), min(int(high) + 1 if high else end, end)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.body(content[start:end], "application/octet-stream")

    def json(self, told):
        self.send_response(200)
        self.body(json.dumps(told).encode(), "application/json")

    def missing(self, code):
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.body(b"{}", "application/json")

    def body(self, content, kind):
        for name, value in (("Content-Type", kind), ("ETag", f'"{COMMIT}"'), ("X-Repo-Commit", COMMIT)):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """An endpoint with one repository: a HATS catalogue of ours, one as MMU v1.5 has them, and a plain table."""
    folder = tmp_path_factory.mktemp("hub")
    write_hats(sky(), folder / "toys", max_rows=40, row_group=8)
    mmu(folder / "mmu_ssl_legacysurvey_north" / "mmu_ssl_legacysurvey_north")
    table = {
        "source_id": [2**60 + i for i in range(9)],
        "ra": np.arange(9.0),
        "dec": np.arange(9.0),
        "z": np.arange(9.0),
    }
    (folder / "plain").mkdir()
    pq.write_table(pa.table(table), folder / "plain" / "0.parquet", row_group_size=2)
    handler = type("OneHub", (Hub,), {"folder": folder, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler.asked
    server.shutdown()
    server.server_close()


def mmu(root: Path) -> None:
    """Four galaxies with images as structs of lists of lists of lists, in one partition."""
    from omnisky.observe.sky import cells

    ra, dec = np.array([10.0, 10.1, 10.2, 10.3]), np.array([1.0, 1.1, 1.2, 1.3])
    places = Observation.of(range(4), ra, dec)
    fine, cell = cells(places, 29), int(cells(places, 2)[0])
    assert (cells(places, 2) == cell).all()
    image = [{"band": ["DES-G", "DES-R", "DES-Z"], "flux": [[[float(i)] * 4] * 4] * 3} for i in range(4)]
    columns = {"_healpix_29": fine, "object_id": ["a", "b", "c", "d"], "ra": ra, "dec": dec, "image": image}
    path = root / "dataset" / "Norder=2" / "Dir=0" / f"Npix={cell}.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(columns), path, row_group_size=2)
    told = {"obs_collection": root.name, "hats_col_ra": "ra", "hats_col_dec": "dec", "hats_nrows": 4}
    (root / "hats.properties").write_text("".join(f"{key}={value}\n" for key, value in told.items()))
    (root / "partition_info.csv").write_text(f"Norder,Npix\n2,{cell}\n")
    (root.parent / "collection.properties").write_text(f"obs_collection=x\nhats_primary_table_url={root.name}\n")


def run(hub, code: str) -> str:
    """What a fresh process prints, which knows no other Hub."""
    address, _ = hub
    env = os.environ | {"HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "HF_HUB_OFFLINE"):
        env.pop(name, None)
    said = subprocess.run([sys.executable, "-c", dedent(code)], env=env, capture_output=True, text=True, timeout=120)
    assert not said.returncode, said.stderr
    return said.stdout.strip()


def test_a_catalogue_on_the_hub_is_read(hub):
    code = f"""
        import omnisky
        seen = omnisky.read("hf://datasets/{REPO}/toys")
        print(len(seen), sorted(seen.parts), sorted(seen.object_id.tolist())[:2])
        seen = omnisky.read("hf://datasets/{REPO}@main/toys/toys")
        print(len(seen))
    """
    whole = "300 ['image', 'labels', 'lightcurve', 'scalars', 'spectrum'] ['o0', 'o1']"
    assert run(hub, code).splitlines() == [whole, "300"]


def test_of_a_cone_only_its_part_is_fetched(hub):
    _, asked = hub
    asked.clear()
    one = sky().take([5])
    code = f"""
        from omnisky.observe.hats import Hats
        found = Hats("hf://datasets/{REPO}/toys", parts=("image",))
        found = found.near(ra={one.ra[0]}, dec={one.dec[0]}, radius_deg=1e-4).read()
        print(found.object_id.tolist(), float(found["image"].flux.max()))
    """
    assert run(hub, code) in ("['o5'] 0.0", "['o5'] nan")  # o5 has no image
    assert len({place for place, _ in asked if "Npix" in place and "/resolve/" in place}) == 1
    assert all(span for place, span in asked if "Npix" in place and "/resolve/" in place), "bytes, not whole files"


def test_a_set_of_the_multimodal_universe_on_the_hub(hub):
    """As its v1.5 lies there: the survey by the name of the repository's folder, images as nested lists."""
    code = f"""
        import omnisky
        seen = omnisky.read("hf://datasets/{REPO}/mmu_ssl_legacysurvey_north")
        print(seen.object_id.tolist(), seen["image"].bands, seen["image"].flux[:, 0, 0, 0].tolist())
    """
    assert run(hub, code) == "['a', 'b', 'c', 'd'] ('g', 'r', 'z') [0.0, 1.0, 2.0, 3.0]"


def test_plain_parquet_on_the_hub_is_read_and_matched(hub, tmp_path):
    (tmp_path / "near.csv").write_text("object_id,ra,dec\nx,3.0001,3.0\ny,8.0,8.0001\n")
    code = f"""
        import omnisky
        from omnisky.observe.matched import match_files
        seen = omnisky.read("hf://datasets/{REPO}/plain")
        print(seen.object_id.tolist()[0], seen["scalars"].names)
        told = match_files({str(tmp_path / "near.csv")!r}, "hf://datasets/{REPO}/plain/0.parquet", 1.0)
        print(told.right.object_id[told.found.right_row].tolist())
    """
    assert run(hub, code).splitlines() == [f"{2**60} ('z',)", f"['{2**60 + 3}', '{2**60 + 8}']"]


def test_what_is_not_on_the_hub_is_named(hub):
    code = f"""
        import omnisky
        from omnisky.errors import OmniskyError
        for place in ("{REPO}/nothing", "no/body/sky"):
            try:
                omnisky.read(f"hf://datasets/{{place}}")
            except OmniskyError as error:
                print(type(error).__name__, place in str(error))
    """
    said = run(hub, code).splitlines()
    assert len(said) == 2 and all(line.endswith("True") for line in said)
