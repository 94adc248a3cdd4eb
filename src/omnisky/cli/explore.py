"""`omnisky explore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omnisky.observe.loader import Source


def explore(
    folder: Path,
    *sides: str,
    data: str = "",
    model: tuple[str, ...] = (),
    aladin: Path | None = None,
    static: Path | None = None,
    title: str = "",
    port: int = 8000,
    open: bool = True,
    fresh: bool = False,
) -> None:
    """Walk through embeddings in the browser: omnisky explore demo, omnisky explore sky-index --data sky/.

    Parameters
    ----------
    folder
        An index of `omnisky index`, or catalogues of `omnisky embed`: Parquet, FITS, HATS; or one such file. The map is
        made once, and kept in FOLDER/explorer.
    sides
        NAME=FILE, which catalogues of the folder to show, and how to call them; all if not given.
    data
        Images, spectra and numbers of the same objects: a folder or file that `omnisky.read` opens.
    model
        Models to ask meanwhile (extra "serve"): where uploads land; with --data, or of the demo's own objects, also
        what they tell of those.
    aladin
        Aladin Lite's aladin.js (`npm pack aladin-lite`), to see the sky in it; pictures of the sky come from the
        network, once it is opened. It stays with the site.
    static
        Write the site here, for any web server, instead of showing it.
    title
        Over the page; the folder's name if not given.
    port
        Where to listen, on this machine alone; 0 is any free one.
    open
        Open the browser too.
    fresh
        Make the map and everything beside it again; it is by itself where the embeddings, --data or --title are others.
    """
    from omnisky.serve.site import add_aladin, copy_site, is_site, refresh

    beside = folder / "explorer" if folder.is_dir() else folder.with_name(f"{folder.name}.explorer")
    site = folder if not fresh and is_site(folder) else beside
    if site == beside:
        _make(site, folder, sides, data, title, fresh)
    if aladin is not None:
        add_aladin(site, aladin)
    if static is not None:
        refresh(site)
        copy_site(site, static)
        print(f"{static}: show it with python -m http.server --directory {static}")
        return
    if model:
        serve_models(site, model, _measured(site, data), port, open)
    else:
        serve_site(site, port, open)


def _make(site: Path, folder: Path, sides: Sequence[str], data: str, title: str, fresh: bool) -> None:
    """Unless it is there, of the same files and as it is asked for; what is not asked for now is as it was."""
    import json

    from omnisky.serve.site import catalogues, is_site
    from omnisky.storage import atomic

    note = site / "made-of.json"
    before = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    sides, data, title = (
        sides or before.get("sides", []),
        data or before.get("data", ""),
        title or before.get("title", ""),
    )
    files = catalogues(folder, sides) or {"": folder / "index.json"}
    asked: dict[str, Any] = {"sides": list(sides), "data": data, "title": title}
    asked["files"] = {str(file): _stamp(file) for file in files.values()}
    if fresh or not is_site(site) or asked != before:
        _write(site, folder, sides, data, title)
        with atomic(note) as draft:
            draft.write_text(json.dumps(asked), encoding="utf-8")


def _stamp(file: Path) -> list[int]:
    about = (file / "hats.properties" if file.is_dir() else file).stat()
    return [about.st_size, about.st_mtime_ns]


def _write(site: Path, folder: Path, sides: Sequence[str], data: str, title: str) -> None:
    from omnisky.observe.read import read
    from omnisky.serve.explore import Sky
    from omnisky.serve.site import open_index, write_site
    from omnisky.train.devices import keep_memory
    from omnisky.watch import counting_bar

    keep_memory()
    index, seen = open_index(folder, sides), read(data) if data else None
    sky = Sky(name="sky", title=title or folder.resolve().name, index=index, seen=seen)
    with counting_bar("explorer") as watch:
        write_site(site, [sky], watch)


def serve_site(site: Path, port: int, show: bool) -> None:
    """Until Ctrl-C; port 0 is any free one."""
    import webbrowser

    from omnisky.serve.site import refresh, server

    refresh(site)
    with server(site, port) as listening:
        address = f"http://127.0.0.1:{listening.server_port}/"
        print(f"{address}  (Ctrl-C ends it)", flush=True)
        if show:
            webbrowser.open(address)
        try:
            listening.serve_forever()
        except KeyboardInterrupt:
            print()


def _measured(site: Path, data: str) -> dict[str, Source]:
    """What models are asked about, by sky: `data`, or what the demo showed, which comes with the package."""
    import json

    from omnisky.demo.sample import shown_again
    from omnisky.observe.read import read

    if not data:
        return shown_again(site)
    names = [one["name"] for one in json.loads((site / "data" / "skies.json").read_text(encoding="utf-8"))]
    return dict.fromkeys(names, read(data))


def serve_demo(site: Path, seen: Mapping[str, Source]) -> None:
    """With all shipped models behind it, where the extra "serve" is installed; until Ctrl-C."""
    from importlib.util import find_spec

    from omnisky.model.store import shipped_models

    if all(map(find_spec, ("fastapi", "uvicorn", "prometheus_client"))):
        serve_models(site, shipped_models(), seen, port=0, show=False)
    else:
        print("pip install 'omnisky[serve]' lets models answer, too. Until then: ", end="")
        serve_site(site, port=0, show=False)


def serve_models(site: Path, models: Sequence[str], seen: Mapping[str, Source], port: int, show: bool) -> None:
    """As `serve_site`, with models behind it. Raises MissingExtra, StorageError."""
    import socket
    import webbrowser

    from omnisky.errors import MissingExtra, StorageError
    from omnisky.serve.site import mount, refresh

    try:
        import uvicorn

        from omnisky.serve.app import build
        from omnisky.serve.door import within
        from omnisky.serve.house import House
    except ImportError as error:
        raise MissingExtra("asking models over HTTP", hint="pip install 'omnisky[serve]'") from error
    refresh(site)
    house = House.open(models)
    app = build(house, hosts=("127.0.0.1", "localhost"))
    mount(app, site, seen)
    with socket.socket() as door:  # here, so that the address is known, and open before the browser asks
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise StorageError(f"port {port}", saw=str(error), want="a free port", hint="--port 0 for any") from error
        door.listen()
        address = f"http://127.0.0.1:{door.getsockname()[1]}/"
        print(f"{address}  (Ctrl-C ends it)", flush=True)
        if show:
            webbrowser.open(address)
        uvicorn.Server(uvicorn.Config(app, http=within(house.limits), log_level="warning")).run(sockets=[door])
