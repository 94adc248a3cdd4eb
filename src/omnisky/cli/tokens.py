"""`omnisky tokenize`, `omnisky generate` and `omnisky posterior`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from omnisky.errors import BadValue

if TYPE_CHECKING:
    from omnisky.model.masked import AnyToAny


def tokenize(
    data: str,
    out: Path,
    *,
    codecs: tuple[Path, ...] = (),
    groups: tuple[str, ...] = (),
    shard: int = 1024,
    batch: int = 64,
    part: str = "0/1",
) -> None:
    """Write the token ids of observations, for omnisky train aion-mini data=OUT. Called again, it goes on.

    Codecs of numbers are fitted to the data in one pass; all codecs lie in OUT/codecs, as AION-1's are published.

    Parameters
    ----------
    data
        Observations: a folder or file that `omnisky.read` opens.
    out
        The folder of the ids.
    codecs
        Trained codecs of images, spectra and maps: runs/codec-image-mini-whole/model runs/codec-spectrum-mini/model …
    groups
        Surveys that see an object together, legacysurvey+desi legacysurvey+hsc: each object keeps one group's
        modalities, drawn by its id. Held-out objects keep all, and so does everybody if not given.
    shard
        Objects a file: what is made again, at most, after a run was killed.
    batch
        Objects at a time.
    part
        One of several processes that share the files: 0/2 and 1/2. The first fits the codecs; start the others then.
    """
    from omnisky.codec.groups import Groups
    from omnisky.model.store import load
    from omnisky.observe.read import source_of
    from omnisky.train.devices import keep_memory
    from omnisky.train.tokens import make_tokens
    from omnisky.watch import counting_bar

    keep_memory()
    together = Groups(groups=tuple(tuple(group.split("+")) for group in groups)) if groups else None
    own, _, parts = part.partition("/")
    if not own.isdecimal() or not parts.isdecimal():
        raise BadValue("part", saw=part, want="0/2, the first of two")
    with counting_bar("tokenize") as watch:
        make_tokens(
            source_of(data),
            out,
            [load(folder) for folder in codecs],
            groups=together,
            shard=shard,
            batch=batch,
            part=(int(own), int(parts)),
            watch=watch,
        )
    print(f"{out}: train on it with omnisky train aion-mini data={out}")


def generate(
    model: str,
    data: str,
    *,
    to: tuple[str, ...],
    out: Path,
    inputs: Annotated[tuple[str, ...], Parameter(name="--from")] = (),
    draws: int = 1,
    steps: int = 8,
    temperature: float = 1.0,
    top_p: float = 0.0,
    guidance: float = 1.0,
    surest: bool = False,
    seed: int = 0,
    batch: int = 32,
) -> None:
    """Draw modalities from others: omnisky generate MODEL DATA --from image --from flux_g --to image_hsc --out FOLDER.

    Parameters
    ----------
    model
        An any-to-any model: a shipped one, a folder, or a Hugging Face repository.
    data
        Observations: a folder or file that `omnisky.read` opens.
    to
        What is drawn, one after the other: image_hsc, spectrum_desi, z … (docs/modalities.md).
    out
        A folder for the answers, as shards; `omnisky.read` opens it.
    inputs
        What is shown; all that was observed, if not given.
    draws
        Of each object.
    steps
        In which a modality is told.
    temperature
        0 takes the likeliest.
    top_p
        Only among the likeliest that together reach this chance; 0 means all.
    guidance
        How far to go from what is said without the inputs to what is said with them; 1 is with.
    surest
        Tell the surest tokens first (MaskGIT) instead of in random order (ROAR).
    seed
        Of the draws.
    batch
        Objects at a time.
    """
    import torch

    from omnisky.generate import MaskGit, Roar, answers
    from omnisky.observe.read import source_of
    from omnisky.observe.shards import write_shards
    from omnisky.train.devices import keep_memory
    from omnisky.watch import counting_bar

    keep_memory()
    way = (MaskGit if surest else Roar)(steps=steps, temperature=temperature, top_p=top_p, guidance=guidance)
    draw = torch.Generator().manual_seed(seed)
    loaded = _any_to_any(model)
    with counting_bar("generate") as watch:
        said = answers(loaded, source_of(data), to, inputs, way, draws=draws, generator=draw, batch=batch, watch=watch)
    write_shards(said, out, sources=(f"{model}: {', '.join(to)} of {data}",))
    print(f"{out}: {len(said):,} answers; read them with omnisky.read({str(out)!r})")


def posterior(
    model: str,
    data: str,
    *names: str,
    out: Path,
    inputs: Annotated[tuple[str, ...], Parameter(name="--from")] = (),
    temperature: float = 1.0,
    batch: int = 256,
) -> None:
    """Say how likely each value of a number is: omnisky posterior MODEL DATA z --from image --out z.parquet.

    Parameters
    ----------
    model
        An any-to-any model: a shipped one, a folder, or a Hugging Face repository.
    data
        Observations: a folder or file that `omnisky.read` opens.
    names
        Of the numbers: z, flux_g, shape_r … (docs/modalities.md).
    out
        A Parquet table: object_id, ra, dec, and of each number mean, mode, standard deviation and quantiles.
    inputs
        What is shown; all that was observed but these numbers, if not given.
    temperature
        Divides the logits; fitted on validation objects, it makes posteriors honest.
    batch
        Objects at a time.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from omnisky.generate.answers import keys_of, shown, table
    from omnisky.generate.posterior import posteriors
    from omnisky.observe.loader import blocks
    from omnisky.observe.read import source_of
    from omnisky.storage import atomic
    from omnisky.train.devices import keep_memory

    keep_memory()
    if not names:
        raise BadValue("nothing asked for", want="names of numbers", hint="z")
    loaded, tables = _any_to_any(model), []
    keys = keys_of(loaded, names)
    for rows in blocks(source_of(data), batch):
        tokens = shown(loaded, rows, inputs, keys)
        tables.append(table(rows, posteriors(loaded, tokens, keys, temperature=temperature, batch=batch)))
    with atomic(out) as draft:
        pq.write_table(pa.concat_tables(tables), draft)
    print(f"{out}: {sum(map(len, tables)):,} objects")


def _any_to_any(name: str) -> AnyToAny:
    from omnisky.model.masked import AnyToAny
    from omnisky.model.store import load

    model = load(name)
    if not isinstance(model, AnyToAny):
        raise BadValue(name, saw=type(model).__name__, want="an any-to-any model (AION)")
    return model
