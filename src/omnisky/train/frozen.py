"""Aligning frozen towers: their states are made once, kept on disk in bfloat16, and the heads learn from those.

A folder of states:

    made-by.json          what made them
    done.json             how many objects are there, and how large their states are
    objects.jsonl         [id, ra, dec] of each
    image.states          one row an object: states × width numbers, bfloat16, little-endian
    image.seen            one row an object: a byte a state, 1 where there is one
    spectrum.states, spectrum.seen

Killed at any moment, the same call goes on after the last whole batch. A tower that learns (`frozen=False`) keeps no
states: what it reads comes from the source, beside those of the other one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from omnisky.codec.stored import StoredStates, StoredTokens, bits
from omnisky.codec.tokens import encode_all
from omnisky.errors import BadValue, CorruptFile, MissingModality, ProvenanceError, StorageError
from omnisky.model import store
from omnisky.model.contrastive import Pairs, Read, stored
from omnisky.observe.loader import Source
from omnisky.observe.types import Observation
from omnisky.storage import atomic
from omnisky.train.config import Run
from omnisky.train.devices import Place, here, joined
from omnisky.train.loop import Progress, train

PARTS = ("image", "spectrum")
"""the towers, and the parts of an observation that they read"""

Watch = Callable[[int, int], None]
"""(objects done, objects in all)"""


def align(
    run: Run,
    folder: str | Path,
    source: Observation | Source,
    towers: Mapping[str, nn.Module],
    watch: Callable[[Progress], None] | None = None,
    keep: Path | None = None,
) -> nn.Module:
    """Train the heads of an AstroCLIP on the states of these towers, {"image": …, "spectrum": …}; return it whole.

    The states lie in `keep` (default: `folder`/states) and may be removed afterwards. Every object has both parts. A
    tower that does not stand still starts from the given one and learns with the heads.
    Raises MissingModality for unpaired objects, BadValue where the run is not an AstroCLIP, and as `train` does.
    """
    folder = Path(folder)
    model = run.model.build(run.seed)
    if run.shard:
        raise BadValue("shard", saw=True, want="False: heads are small, and their towers stand still")
    if not isinstance(model, Pairs):
        raise BadValue(run.name, saw=type(model).__name__, want="a run of ContrastiveConfig")
    fit(model, towers)
    model.codecs = run.codecs
    place, kept = here(run.precision), keep or folder / "states"
    with joined(place):
        return _align(run, folder, source, model, place, kept, watch)


def _align(
    run: Run, folder: Path, source: Observation | Source, model: Pairs, place: Place, keep: Path, watch: Any
) -> nn.Module:
    """The states are made by one rank, and read by all."""
    if place.rank == 0:
        keep_states(model, source, keep, precision=run.precision)
    place.all(None)
    states = keep_states(model, source, keep, precision=run.precision)
    cached = replace(run, codecs=(*run.codecs, *stored_codecs(model)))
    live = tuple(part for part in PARTS if part not in standing(model))
    trained = train(cached, folder, source=Beside(states, source, live) if live else states, start=model, watch=watch)
    trained.codecs = run.codecs  # those of the kept states have no meaning elsewhere
    if place.rank == 0:
        store.save(trained, folder / "model")
    place.all(None)
    return trained


def fit(model: Pairs, towers: Mapping[str, nn.Module]) -> None:
    """Put trained backbones under the heads. Raises BadValue, UnknownLayout."""
    if sorted(towers) != sorted(PARTS):
        raise BadValue("towers", saw=tuple(towers), want=PARTS)
    for part, tower in towers.items():
        store.fill(getattr(model, part).backbone, tower.state_dict(), f"the {part} tower")


def standing(model: Pairs) -> tuple[str, ...]:
    """The parts whose towers do not learn. Raises BadValue where there is none."""
    found = tuple(part for part in PARTS if getattr(model, part).standing is not None)
    if not found:
        raise BadValue("both towers", saw="frozen=False", want="one that stands still", hint="train(run, …, start=…)")
    return found


@dataclass(frozen=True)
class Beside:
    """A source of the kept states, and of what the tower that learns reads of the same objects."""

    states: Observation
    source: Source
    parts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.states)

    def take(self, index: Any) -> Observation:
        seen = self.source.take(index)
        return self.states.take(index) | {part: seen[part] for part in self.parts}

    def catalogue(self) -> Observation:
        """Ids and positions."""
        return Observation(self.states.object_id, self.states.ra, self.states.dec)


def stored_codecs(model: Pairs) -> tuple[StoredTokens, ...]:
    """What reads the kept states of the towers that stand still."""
    names = {part: getattr(model, part).config.name for part in PARTS}
    return tuple(StoredTokens(name=stored(names[part]), part=f"{part}_states") for part in standing(model))


def keep_states(
    model: Pairs,
    seen: Observation | Source,
    folder: str | Path,
    *,
    batch: int = 64,
    precision: str = "bf16",
    watch: Watch | None = None,
) -> Observation:
    """The states that heads on standing towers read, on disk; what comes back reads them row by row when asked.

    Raises MissingModality where an object lacks one part, ProvenanceError where the folder holds the states of other
    towers or objects, StorageError, CorruptFile.
    """
    folder, place = Path(folder), here(precision)
    folder.mkdir(parents=True, exist_ok=True)
    _demand_same(folder / "made-by.json", _stamp(model, len(seen), precision))
    done = _Done.read(folder)
    _cut_back(folder, done)
    _demand_same_objects(folder, seen, done.objects)
    lean = place.lean(model.eval())
    for start in range(done.objects, len(seen), batch):
        rows = seen.take(slice(start, min(start + batch, len(seen))))
        done = _append(folder, lean, rows, done, place, model.codecs)
        if watch is not None:
            watch(done.objects, len(seen))
    return _opened(folder, done)


@dataclass(frozen=True)
class _Done:
    """How far a folder has come."""

    objects: int
    shapes: Mapping[str, tuple[int, int]]
    """part → states, width"""

    @classmethod
    def read(cls, folder: Path) -> _Done:
        if not (folder / "done.json").exists():
            return cls(0, {})
        try:
            said = json.loads((folder / "done.json").read_text())
            return cls(int(said["objects"]), {part: (int(a), int(b)) for part, (a, b) in said["shapes"].items()})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptFile(f"{folder}/done.json: {error}", hint=f"remove {folder}") from error

    def sizes(self) -> dict[str, int]:
        """Bytes each file has."""
        sizes = {}
        for part, (states, width) in self.shapes.items():
            sizes[f"{part}.states"] = 2 * states * width * self.objects
            sizes[f"{part}.seen"] = states * self.objects
        return sizes


@torch.inference_mode()
def _append(folder: Path, lean: nn.Module, rows: Observation, done: _Done, place: Place, codecs: tuple) -> _Done:
    if missing := [part for part in PARTS if part not in rows]:  # also those of a tower that learns: pairs are pairs
        raise MissingModality(saw=tuple(rows.parts), want=PARTS, hint=f"pairs: observations with {' '.join(missing)}")
    tokens = encode_all(codecs, rows).to(next(lean.parameters()).device)
    shapes = dict(done.shapes)
    for part in standing(lean):
        with place.autocast():
            read: Read = getattr(lean, part).read(tokens)
        shape = (read.states.shape[1], read.states.shape[2])
        if shapes.setdefault(part, shape) != shape:
            hint = "images of one size; a codec with side=…"
            raise BadValue(f"{part}: states differ from batch to batch", saw=shape, want=shapes[part], hint=hint)
        here_seen = torch.ones(shape[0], dtype=torch.uint8).expand(len(rows), -1)
        here_seen = here_seen if read.present is None else read.present.to(torch.uint8).cpu()
        _write(folder / f"{part}.states", bits(read.states).tobytes())
        _write(folder / f"{part}.seen", here_seen.contiguous().numpy().tobytes())
    lines = zip(rows.object_id.tolist(), rows.ra.tolist(), rows.dec.tolist(), strict=True)
    _write(folder / "objects.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    done = _Done(done.objects + len(rows), shapes)
    with atomic(folder / "done.json") as draft:
        draft.write_text(json.dumps({"objects": done.objects, "shapes": done.shapes}))
    return done


def _write(file: Path, content: bytes) -> None:
    """At the end of a file, and on the disk before anyone says it is there."""
    try:
        with open(file, "ab") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        raise StorageError(f"could not write {file}", saw=str(error), hint="another disk, or make room") from error


def _cut_back(folder: Path, done: _Done) -> None:
    """Away with what a killed call began and did not finish. Raises CorruptFile where something is missing."""
    objects = folder / "objects.jsonl"
    lines = objects.read_bytes().splitlines(keepends=True) if objects.exists() else []
    sizes = done.sizes() | {"objects.jsonl": sum(map(len, lines[: done.objects]))}
    if len(lines) < done.objects:
        raise CorruptFile(str(objects), saw=f"{len(lines)} objects", want=done.objects, hint=f"remove {folder}")
    for name in ("objects.jsonl", *(f"{part}.{what}" for part in PARTS for what in ("states", "seen"))):
        file, size = folder / name, sizes.get(name, 0)
        has = file.stat().st_size if file.exists() else 0
        if has < size:
            raise CorruptFile(str(file), saw=f"{has} bytes", want=f"{size}", hint=f"remove {folder}")
        if has > size:
            os.truncate(file, size)


def _opened(folder: Path, done: _Done) -> Observation:
    ids, ra, dec = zip(*map(json.loads, (folder / "objects.jsonl").read_text().splitlines()), strict=True)
    parts = {}
    for part, (states, width) in done.shapes.items():
        table = np.memmap(folder / f"{part}.states", np.uint16, "r", shape=(done.objects, states, width))
        seen = np.memmap(folder / f"{part}.seen", np.uint8, "r", shape=(done.objects, states)).view(np.bool_)
        parts[f"{part}_states"] = StoredStates(rows=np.arange(done.objects), table=table, seen=seen)
    return Observation.of(ids, ra, dec, **parts)


def _stamp(model: Pairs, objects: int, precision: str) -> dict[str, Any]:
    """The heads may change, nothing else."""
    seal = blake2b(digest_size=8)
    for part in standing(model):
        for name, weight in sorted(getattr(model, part).standing.state_dict().items()):
            seal.update(name.encode() + weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    how = {"bare": getattr(model.image.config, "bare", False), "codecs": store.codecs_told(model.codecs)}
    how |= {} if standing(model) == PARTS else {"standing": standing(model)}
    seal.update(json.dumps(how, sort_keys=True).encode())
    return {"towers": seal.hexdigest(), "objects": objects, "precision": precision}


def _demand_same(file: Path, stamp: dict[str, Any]) -> None:
    if file.exists():
        before = json.loads(file.read_text())
        if before != stamp:
            raise ProvenanceError(
                f"{file.parent} holds other states", saw=stamp, want=before, hint=f"remove {file.parent}"
            )
        return
    with atomic(file) as draft:
        draft.write_text(json.dumps(stamp))


def _demand_same_objects(folder: Path, seen: Observation | Source, done: int) -> None:
    """The first and the last of those that are there already."""
    if not done:
        return
    ends = np.unique([0, done - 1])
    lines = (folder / "objects.jsonl").read_text().splitlines()
    before, again = [json.loads(lines[i])[0] for i in ends], seen.take(ends).object_id.tolist()
    if again != before:
        raise ProvenanceError(f"{folder} holds other objects", saw=again, want=before, hint=f"remove {folder}")
