"""The explorer as a folder of plain files: any web server will do, `python -m http.server` too, and no network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from omnisky.embed import PARQUET, Embedding
from omnisky.embed.fits import is_fits
from omnisky.errors import BadValue, CorruptFile, StorageError
from omnisky.observe.arrow import to_arrow
from omnisky.observe.loader import Source, of_parts
from omnisky.observe.types import Image, Observation, Spectrum
from omnisky.search import Index
from omnisky.serve.explore import FORMAT, Sky, blocks, write_sky
from omnisky.storage import atomic

ALADIN = Path("aladin") / "aladin.js"
"""where a site keeps Aladin Lite, if it was given it"""
_PIXELS, _POINTS = 512, 8192
"""a side of an image, and of a spectrum, at most, where the page draws an upload"""


def write_site(folder: str | Path, skies: Sequence[Sky], watch: Callable[[int, int], None] | None = None) -> Path:
    """The page and the data of each sky; returns `folder`. Raises what `write_sky` raises."""
    if len({sky.name for sky in skies}) != len(skies) or not skies:
        raise BadValue("skies", saw=[sky.name for sky in skies], want="one or more, each with its own name")
    folder = Path(folder)
    for sky in skies:
        write_sky(folder / "data" / sky.name, sky, watch)
    listed = [{"name": sky.name, "title": sky.title, "count": len(sky.index)} for sky in skies]
    with atomic(folder / "data" / "skies.json") as draft:
        draft.write_text(json.dumps(listed, ensure_ascii=False), encoding="utf-8")
    refresh(folder)
    return folder


def refresh(folder: Path) -> None:
    """Today's page over yesterday's; the data stay as they are."""
    with as_file(files("omnisky.serve") / "web") as web:
        for file in sorted(web.rglob("*")):
            if file.is_file():
                with atomic(folder / file.relative_to(web)) as draft:
                    shutil.copyfile(file, draft)
    with atomic(folder / "site.json") as draft:
        draft.write_text(json.dumps({"aladin": (folder / ALADIN).is_file()}), encoding="utf-8")


def add_aladin(folder: Path, file: Path) -> None:
    """Aladin Lite's aladin.js (npm: aladin-lite) into the site: its page shows the sky in it, too. Raises StorageError.

    It is not in our package: it is LGPL, and nearly ten times as large as the explorer.
    """
    if not file.is_file():
        hint = "npm pack aladin-lite; dist/aladin.js is in it"
        raise StorageError(f"{file}", saw="no such file", want="Aladin Lite's aladin.js", hint=hint)
    with atomic(folder / ALADIN) as draft:
        shutil.copyfile(file, draft)


def is_site(folder: Path) -> bool:
    """Whether `write_site` wrote it. Raises CorruptFile where another version of us did."""
    listed = folder / "data" / "skies.json"
    if not listed.is_file():
        return False
    try:
        formats = {_format(folder / "data" / one["name"]) for one in json.loads(listed.read_text(encoding="utf-8"))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptFile(f"{listed}: {error}", want="a site of omnisky explore", hint="--fresh") from error
    if formats != {FORMAT}:
        raise CorruptFile(str(listed), saw=f"format {formats}", want=str(FORMAT), hint="--fresh")
    return True


def _format(sky: Path) -> Any:
    return json.loads((sky / "sky.json").read_text(encoding="utf-8"))["format"]


def copy_site(folder: Path, out: Path) -> Path:
    """The same site elsewhere, whole or not at all."""
    with atomic(out) as draft:
        shutil.copytree(folder, draft)
    return out


def open_index(folder: str | Path, sides: Sequence[str] = ()) -> Index:
    """What a folder holds: an index of `omnisky index`, or catalogues of `omnisky embed` (Parquet, FITS, HATS; one of
    these may be the folder), sides named as their files.

    `sides` (NAME=FILE, of files in the folder or elsewhere) says which, and what to call them. Raises BadValue,
    CorruptFile, and ProvenanceError where the catalogues are of different models.
    """
    found = catalogues(Path(folder), sides)
    return Index({name: Embedding.load(file) for name, file in found.items()}) if found else Index.open(folder)


def catalogues(folder: Path, sides: Sequence[str] = ()) -> dict[str, Path]:
    """By side; none where the folder is an index. Raises BadValue for neither, and for two of one name."""
    named = dict(word.partition("=")[::2] for word in sides)
    if not all(named.values()):
        raise BadValue("sides", saw=tuple(sides), want="NAME=FILE …", hint="image=images.parquet")
    if named:
        return {name: Path(file) if Path(file).exists() else folder / file for name, file in named.items()}
    if (folder / "index.json").is_file():
        return {}
    if _is_catalogue(folder):
        return {"embedding": folder}
    files = [file for file in sorted(folder.iterdir()) if _is_catalogue(file)] if folder.is_dir() else []
    found = {file.stem: file for file in files}
    if not files:
        hint = "omnisky embed MODEL DATA DIR/embeddings.parquet"
        raise BadValue(f"{folder}", saw="no index and no embeddings", want="a folder of either", hint=hint)
    if len(found) < len(files):
        raise BadValue(f"{folder}", saw=[file.name for file in files], want="NAME=FILE …, those to show")
    return found


def _is_catalogue(path: Path) -> bool:
    if path.is_dir():
        return (path / "hats.properties").is_file()
    return path.is_file() and (path.suffix in PARQUET or is_fits(path))


class _Files(SimpleHTTPRequestHandler):
    """Files as they are, looked for anew each time; silent."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".js": "text/javascript", ".json": "application/json"}
    protocol_version = "HTTP/1.1"

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def server(folder: str | Path, port: int = 8000) -> ThreadingHTTPServer:
    """Serves the site to this machine alone, once `.serve_forever()` is called; port 0 is any. Raises StorageError."""
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Files, directory=str(folder)))
    except (OSError, OverflowError) as error:
        raise StorageError(f"port {port}", saw=str(error), want="a free port", hint="--port 0 for any") from error


def mount(app: Any, site: str | Path, seen: Mapping[str, Source] | None = None, path: str = "/") -> None:
    """Serve the site beside the routes of `app.build`'s application, which go before it; the page finds its API there.

    Of a sky's objects in `seen` it also hands out what was measured, as an Arrow stream: what models are asked about.
    Of an upload it tells what it read, for the page to draw.
    """
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
    from starlette.staticfiles import StaticFiles

    from omnisky.serve.wire import json_of, observation

    kept = {name: _Measured(source) for name, source in (seen or {}).items()}

    def measured(request: Any) -> Response:
        name, object_id = request.path_params["sky"], request.path_params["object_id"]
        data = kept[name].arrow(object_id) if name in kept else None
        return Response(status_code=404) if data is None else Response(data, media_type="application/octet-stream")

    async def look(request: Any) -> Response:
        limits = request.app.state.serving.house.limits
        found = (await run_in_threadpool(observation, await request.body(), limits)).take([0])
        drawn = {name: _coarser(part) for name, part in found.parts.items() if isinstance(part, Image | Spectrum)}
        told = await run_in_threadpool(json_of, Observation(found.object_id, found.ra, found.dec, drawn))
        return JSONResponse(told[0])

    beside = path.rstrip("/")
    app.router.routes.append(Route(f"{beside}/objects/{{sky}}/{{object_id:path}}", measured))
    app.router.routes.append(Route(f"{beside}/look", look, methods=["POST"]))
    app.mount(path, StaticFiles(directory=site, html=True), name="explorer")


def _coarser(part: Image | Spectrum) -> Image | Spectrum:
    """No finer than a page shows it: of what is larger every second pixel, or third, …"""
    if isinstance(part, Spectrum):
        step = -(-part.flux.shape[-1] // _POINTS)
        return Spectrum(flux=part.flux[:, ::step], wavelength_aa=part.wavelength_aa[:, ::step], unit=part.unit)
    step = -(-max(part.flux.shape[-2:]) // _PIXELS)
    flux, scale = part.flux[..., ::step, ::step], part.pixel_scale_arcsec * step
    if part.unit != "display":
        flux = flux * flux.dtype.type(step**2)  # of all the pixels that it stands for
    return Image(flux=flux, bands=part.bands, unit=part.unit, pixel_scale_arcsec=scale)


class _Measured:
    """Objects by id."""

    def __init__(self, seen: Source) -> None:
        self.seen = seen
        if (known := getattr(seen, "object_id", None)) is None:
            known = np.concatenate([block.object_id for block, _ in blocks(of_parts(seen, ()))])
        self.rows = {str(name): row for row, name in enumerate(known)}

    def arrow(self, object_id: str) -> bytes | None:
        """An Arrow stream; None for a stranger."""
        if object_id not in self.rows:
            return None
        table = to_arrow(self.seen.take([self.rows[object_id]]))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write(table)
        return sink.getvalue().to_pybytes()
