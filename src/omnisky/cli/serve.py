"""`omnisky serve`."""

from __future__ import annotations

import os
from importlib.util import find_spec

from omnisky.errors import BadValue, MissingExtra

LOOPBACK = ("127.0.0.1", "localhost")


def serve(
    *models: str,
    index: tuple[str, ...] = (),
    head: tuple[str, ...] = (),
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    body_mb: int | None = None,
    rows: int | None = None,
    waiting: int | None = None,
    batch: int | None = None,
    seconds: float | None = None,
) -> None:
    """Serve models over HTTP: omnisky serve omnisky-nano omnisky-clip. Stop it with Ctrl-C: who waits is answered.

    Parameters
    ----------
    models
        Shipped models, folders, or NAME=FOLDER; omnisky-nano and omnisky-clip if none is given.
    index
        Folders of `omnisky index` to search in, or NAME=FOLDER.
    head
        Folders of fine-tuned models that answer at /v1/predict/NAME, or NAME=FOLDER.
    host
        Where to listen. Other places than this machine want a key.
    port
        And on which port.
    api_key
        What requests must bring; by default OMNISKY_API_KEY.
    body_mb, rows, waiting, batch, seconds
        The largest body, the most objects of a request, requests that may wait, objects at a time, time to answer.
    """
    key = os.environ.get("OMNISKY_API_KEY", "") if api_key is None else api_key
    if host not in LOOPBACK and not key:
        raise BadValue("no key", saw=f"--host {host}", want="a key, or 127.0.0.1", hint="set OMNISKY_API_KEY")
    if missing := [name for name in ("fastapi", "uvicorn", "prometheus_client") if find_spec(name) is None]:
        raise MissingExtra("serving", saw=f"no {', '.join(missing)}", hint="pip install 'omnisky[serve]'")
    import uvicorn

    from omnisky.serve.app import build
    from omnisky.serve.door import within
    from omnisky.serve.house import House, Limits
    from omnisky.train.devices import keep_memory

    keep_memory()
    size = None if body_mb is None else body_mb << 20
    asked = {"body_bytes": size, "rows": rows, "waiting": waiting, "batch": batch, "seconds": seconds}
    limits = Limits(**{name: value for name, value in asked.items() if value is not None})  # type: ignore[arg-type]
    house = House.open(
        models or ("omnisky-nano", "omnisky-clip"), indices=index, heads=head, limits=limits, api_key=key
    )
    # Another page in the user's browser could otherwise talk to us under a name of its own (DNS rebinding).
    hosts = ("*",) if key else LOOPBACK
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(f"{address} serves {', '.join(house.models)}; what can be asked: {address}/docs", flush=True)
    app, door = build(house, hosts=hosts), within(limits)
    uvicorn.run(app, http=door, host=host, port=port, log_level="warning", timeout_keep_alive=15)
