"""`omnisky embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from omnisky.errors import BadValue


def embed(
    model: str,
    data: str,
    out: Path,
    *,
    part: str | None = None,
    blocks: int | None = None,
    batch: int = 64,
    bf16: bool = False,
    engine: Literal["local", "torchrun", "lsdb"] | None = None,
    workers: int = 2,
    scheduler: str = "",
) -> None:
    """Embed observations into a Parquet or FITS catalogue: object_id, ra, dec, embedding. Called again, it goes on.

    Parameters
    ----------
    model
        A shipped model, a folder, or a Hugging Face repository.
    data
        What to embed: a folder or file that `omnisky.read` opens.
    out
        The Parquet file, or FITS table (.fits); with --engine the folder of a HATS catalogue.
    part
        The one part to read, where there are several: image, spectrum. An AstroCLIP wants to know.
    blocks
        How many blocks to go through; the model's own embedding layer if not given.
    batch
        Objects at a time.
    bf16
        Half precision where the processor has it: faster, and another signature.
    engine
        DATA is a HATS catalogue, and so shall OUT be, partition by partition. local: here. torchrun: each rank its
        share. lsdb: on a Dask cluster (extra "hats").
    workers
        Processes of a Dask cluster on this machine.
    scheduler
        The address of a Dask cluster that is there already, such as tcp://10.0.0.1:8786.
    """
    from omnisky.train.devices import keep_memory
    from omnisky.watch import counting_bar

    keep_memory()
    asked: dict[str, Any] = {"part": part, "blocks": blocks, "batch": batch, "precision": "bf16" if bf16 else "fp32"}
    with counting_bar("embed") as watch:
        if engine is None:
            _file(model, data, out, asked | {"watch": watch})
            said = ""
        else:
            from omnisky.embed import Cluster, Local, Ranks

            engines = {"local": Local(), "torchrun": Ranks(), "lsdb": Cluster(workers, scheduler)}
            said = _catalogue(model, data, out, asked | {"watch": watch, "engine": engines[engine]})
    print(f"{out}: {said}read it with omnisky.Embedding.load({str(out)!r})")


def _file(model: str, data: str, out: Path, asked: dict[str, Any]) -> None:
    from omnisky.embed import PARQUET, embed_file
    from omnisky.embed.fits import is_fits
    from omnisky.model.store import load
    from omnisky.observe.read import read

    made_by, seen = load(model), read(data)
    if out.suffix not in PARQUET and not is_fits(out):
        hint = "a folder, a HATS catalogue, is written with --engine"
        raise BadValue("out", saw=out, want=("out.parquet", "or", "out.fits"), hint=hint)
    embed_file(made_by, seen, out, **asked)


def _catalogue(model: str, data: str, out: Path, asked: dict[str, Any]) -> str:
    """What was done, and how fast each worker was."""
    from omnisky.embed import embed_hats
    from omnisky.embed.fits import is_fits
    from omnisky.observe.hats import Hats
    from omnisky.observe.read import scan

    if is_fits(out):
        raise BadValue("out", saw=out, want="a folder, with --engine", hint="leave --engine out")
    source = scan(data)
    if not isinstance(source, Hats):
        hint = "leave --engine out, or write one with omnisky.observe.hats_write.write_hats"
        raise BadValue("data", saw=data, want="a HATS catalogue", hint=hint)
    report = embed_hats(model, source, out, **asked)
    rates = report.rates()
    if not rates:
        return "all was there already; "
    told = f"{report.objects:,} objects in {len(report.done)} partitions; "
    told += f"workers: {len(rates)}, {min(rates.values()):.3g}–{max(rates.values()):.3g} objects/s each; "
    return told + f"overhead: {report.overhead():.0%} of their time; "
