"""`omnisky align`: two trained towers into one space."""

from __future__ import annotations

from pathlib import Path


def align(
    name: str,
    *edits: str,
    image: str,
    spectrum: str,
    out: Path | None = None,
    keep: Path | None = None,
    json: bool = False,
) -> None:
    """Align images with spectra: omnisky align astroclip-mini data=PATH --image runs/a/model --spectrum runs/b/model.

    Parameters
    ----------
    name
        The recipe (see `omnisky recipes`).
    edits
        Changes as key=value; data=PATH names observations that have both an image and a spectrum.
    image
        The trained image tower: a folder, as `omnisky train astrodino-mini` leaves it, or a repository.
    spectrum
        The trained spectrum tower.
    out
        The folder of the run; runs/NAME if not given. Called again with the same folder, it goes on.
    keep
        Where the towers' states lie meanwhile; out/states if not given. They may be removed afterwards.
    json
        Print one JSON line a step instead of a progress bar.
    """
    from omnisky.errors import BadValue
    from omnisky.model.distill import Distill
    from omnisky.model.store import load
    from omnisky.observe.read import read
    from omnisky.recipes import recipe
    from omnisky.train import frozen
    from omnisky.train.config import edit
    from omnisky.train.devices import keep_memory
    from omnisky.watch import lines, training_bar

    keep_memory()
    run = edit(recipe(name), edits)
    if not run.data:
        raise BadValue("no data", want="data=PATH", hint=f"omnisky align {name} data=…")
    seeing, folder = load(image), out or Path("runs") / name
    towers = {"image": seeing.encoder() if isinstance(seeing, Distill) else seeing, "spectrum": load(spectrum)}
    with lines() if json else training_bar(run.name) as watch:
        frozen.align(run, folder, read(run.data), towers, watch=watch, keep=keep)
    if not json:
        print(f"{folder / 'model'}: use it with omnisky.load({str(folder / 'model')!r})")
