"""`omnisky tokenize`, `omnisky generate` and `omnisky posterior`."""

from __future__ import annotations

from pathlib import Path


def tokenize(
    data: str,
    out: Path,
    *,
    codecs: tuple[Path, ...] = (),
    groups: tuple[str, ...] = (),
    shard: int = 1024,
    batch: int = 64,
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
        Trained codecs of images, spectra and maps: runs/codec-image-mini/model runs/codec-spectrum-mini/model …
    groups
        Surveys that see an object together, legacysurvey+desi legacysurvey+hsc: each object keeps one group's
        modalities, drawn by its id. Held-out objects keep all, and so does everybody if not given.
    shard
        Objects a file: what is made again, at most, after a run was killed.
    batch
        Objects at a time.
    """
    from omnisky.codec.groups import Groups
    from omnisky.model.store import load
    from omnisky.train.devices import keep_memory
    from omnisky.train.tokens import make_tokens, opened
    from omnisky.watch import counting_bar

    keep_memory()
    together = Groups(groups=tuple(tuple(group.split("+")) for group in groups)) if groups else None
    with counting_bar("tokenize") as watch:
        make_tokens(
            opened(data),
            out,
            [load(folder) for folder in codecs],
            groups=together,
            shard=shard,
            batch=batch,
            watch=watch,
        )
    print(f"{out}: train on it with omnisky train aion-mini data={out}")
