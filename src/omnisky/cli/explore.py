"""`omnisky explore`."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def explore(
    folder: Path,
    *sides: str,
    data: str = "",
    model: tuple[str, ...] = (),
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
        An index of `omnisky index`, or Parquet catalogues of `omnisky embed`. The map is made once, and kept in
        FOLDER/explorer.
    sides
        NAME=FILE, which catalogues of the folder to show, and how to call them; all if not given.
    data
        Images, spectra and numbers of the same objects: a folder or file that `omnisky.read` opens.
    model
        Models to ask meanwhile (extra "serve"): where uploads land; with --data also what they tell of its objects.
    static
        Write the site here, for any web server, instead of showing it.
    title
        Over the page; the folder's name if not given.
    port
        Where to listen, on this machine alone; 0 is any free one.
    open
        Open the browser too.
    fresh
        Make the map and everything beside it again.
    """
    from omnisky.serve.site import copy_site, is_site

    site = folder if not fresh and is_site(folder) else folder / "explorer"
    if fresh or not is_site(site):
        _write(site, folder, sides, data, title)
    if static is not None:
        copy_site(site, static)
        print(f"{static}: show it with python -m http.server --directory {static}")
        return
    if model:
        _serve_with_models(site, model, data, port, open)
    else:
        serve_site(site, port, open)


def _write(site: Path, folder: Path, sides: Any, data: str, title: str) -> None:
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


def _serve_with_models(site: Path, models: tuple[str, ...], data: str, port: int, show: bool) -> None:
    import json
    import webbrowser

    from omnisky.errors import MissingExtra
    from omnisky.observe.read import read
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
    names = [one["name"] for one in json.loads((site / "data" / "skies.json").read_text(encoding="utf-8"))]
    seen = read(data) if data else None
    mount(app, site, {} if seen is None else dict.fromkeys(names, seen))
    print(f"http://127.0.0.1:{port}/  (Ctrl-C ends it)", flush=True)
    if show:
        webbrowser.open(f"http://127.0.0.1:{port}/")
    uvicorn.run(app, http=within(house.limits), host="127.0.0.1", port=port, log_level="warning")
