"""From observations to a folder of token ids, codecs included: what AION's pre-training reads.

OUT/codecs/<name>/      one folder a codec, in the published layout
OUT/000000.parquet …    ids, see `codec.token_shards`
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from torch import nn

from omnisky.codec import token_shards
from omnisky.codec.book import CodecBook
from omnisky.codec.field import FieldNetwork
from omnisky.codec.fit import LIGHT, fit_numbers
from omnisky.codec.groups import Groups
from omnisky.codec.image_network import ImageNetwork
from omnisky.codec.modalities import DOMAINS
from omnisky.codec.saved import around, save_codecs, signature
from omnisky.codec.spectrum_network import SpectrumNetwork
from omnisky.codec.tokens import Codec
from omnisky.errors import BadValue
from omnisky.observe import sky
from omnisky.observe.loader import Source, blocks
from omnisky.observe.mmu import MMUHdf5
from omnisky.observe.shards import Shards
from omnisky.observe.types import Observation
from omnisky.storage import recover

NETWORKS: dict[type[nn.Module], str] = {ImageNetwork: "Image", SpectrumNetwork: "Spectrum", FieldNetwork: "ScalarField"}
"""trained networks, and the kind of codec each is the half of"""


def make_tokens(  # noqa: PLR0913 - what, where to, by what, for whom, how much at once, whose part, who looks on
    source: Source,
    out: str | Path,
    networks: Iterable[nn.Module] = (),
    *,
    groups: Groups | None = None,
    held_out: float = 0.0,
    shard: int = 1024,
    batch: int = 64,
    part: tuple[int, int] = (0, 1),
    watch: Callable[[int, int], None] | None = None,
) -> Path:
    """Fit codecs of numbers, keep them and the learned ones in `out`, and write the ids of all objects.

    `networks` are trained ones, each used for all its modalities. Killed, the same call goes on. `part` (i, n) is one
    of n processes: the first fits the codecs, the others start once they are there. `held_out` is the share of the sky
    that nothing is fitted to, as `Run.held_out`; codecs that `out` has already stay as they are. Raises BadValue,
    MissingModality, ProvenanceError.
    """
    out = Path(out)
    learned = around_all(networks)
    recover(out / "codecs")
    if not (out / "codecs").is_dir():
        if part[0]:
            raise BadValue(f"no {out / 'codecs'} yet", want="part 0 to have fitted them", hint="start this part later")
        fitted = fit_numbers(_learnt(blocks(light(source)), held_out))
        save_codecs({**fitted, **learned}, out)
    codecs = tuple(CodecBook(out).values())
    if changed := [key for key in learned if key not in {codec.name for codec in codecs}]:
        raise BadValue(f"{out} was begun with other codecs", saw=changed, want="the same", hint="another folder")
    signed = signature(codecs) + (f" {groups}" if groups else "")
    return token_shards.tokenize(
        codecs, source, out, shard=shard, batch=batch, signature=signed, keep=groups, part=part, watch=watch
    )


def _learnt(batches: Iterable[Observation], share: float) -> Iterator[Observation]:
    """Without the objects of the held-out sky: levels must not be drawn from those who are asked later."""
    for seen in batches:
        yield seen.take(~sky.held_out(seen, share)) if share else seen


def around_all(networks: Iterable[nn.Module]) -> dict[str, Codec]:
    """The codecs over trained networks, of each modality that one serves. Raises BadValue for other models."""
    codecs = {}
    for network in networks:
        if type(network) not in NETWORKS:
            want = tuple(kind.__name__ for kind in NETWORKS)
            raise BadValue("not a learned codec", saw=type(network).__name__, want=want, hint="runs/codec-…/model")
        for key, domain in DOMAINS.items():
            if domain.codec == NETWORKS[type(network)]:
                codecs[key] = around(network, domain)
    return codecs


def light(source: Source) -> Source:
    """The same objects with what codecs of numbers are fitted to, and no pictures or spectra read, where the source
    can leave them out.
    """
    if isinstance(source, Shards):
        kept = [name for name, part in source.layout.parts.items() if issubclass(part.kind, LIGHT)]
        return source.of_parts(kept)
    if isinstance(source, MMUHdf5):
        kept = [name for name, part in source.take(slice(0, 1)).parts.items() if isinstance(part, LIGHT)]
        return source.of_parts(kept)
    return source


def codecs_beside(data: str | Path, names: Iterable[str]) -> tuple[Codec, ...]:
    """The codecs of these tokens that a folder of ids was made with; none where it has none."""
    if not (Path(data).expanduser() / "codecs").is_dir():
        return ()
    book = CodecBook(Path(data).expanduser())
    return tuple(book[name] for name in names if name in book)
