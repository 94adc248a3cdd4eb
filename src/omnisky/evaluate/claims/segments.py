"""Spiral arms and bars, pixel by pixel: a light head on frozen patches of omnisky-clip, and a U-Net with the same maps.

There are no maps of real galaxies at hand. On the mock sky we know whose light is where: a pixel belongs to the arms
where a third of the disc's light is theirs, and to the bar where a sixth is, as seen through the air, if the galaxy
stands above the noise of the sky there. omnisky-clip learned on mock pictures of other seeds, and never saw a map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import nn

from omnisky.adapt.frozen import Frozen
from omnisky.adapt.learn import aside
from omnisky.adapt.rows import Rows
from omnisky.adapt.score import iou, iou_gain
from omnisky.adapt.segment import Segmenter, best_thresholds
from omnisky.codec.image import centred
from omnisky.codec.patch import RasterPatches
from omnisky.embed import only
from omnisky.errors import BadValue
from omnisky.evaluate.claims.found import Grid, Inputs, Result, Task
from omnisky.evaluate.claims.sky import SIDE_PX, small
from omnisky.evaluate.claims.spectra import CLIP
from omnisky.model import store
from omnisky.model.baseline import UNet
from omnisky.observe.loader import turned
from omnisky.observe.mock import MockSky, Population
from omnisky.observe.mock.cameras import CAMERAS
from omnisky.observe.mock.images import sky_sigma
from omnisky.observe.types import Image, Observation, concatenate

SKY = MockSky(objects=20_000, population=Population(seed=29, faintest_r_mag=17.5, stars=0.0), spectrographs=())
"""another seed than any model was trained on; of these the large spirals are taken"""
SHARES = {"arms": 1 / 3, "bar": 1 / 6}
"""of the disc's light, above which a pixel is theirs; bars of the mock sky are weaker than its arms"""
KINDS = tuple(SHARES)
BINNED = 2
"""maps, and what the U-Net sees, have pixels of 0.52″: less than half the seeing"""
TURNS = 4
"""quarter turns of each galaxy that both learn from"""
HEAD, U_NET, MEAN = "up-sampler on omnisky-clip", "U-Net", "mean of the maps"
SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is asked."""

    labels: tuple[int, ...] = (30, 300)
    """galaxies whose maps are learnt, the most last"""
    tested: int = 200
    steps: int = 800
    steps_of_u_net: int = 300


class FromPixels(Segmenter):
    """Learnt like the head on patches, with the same loss and thresholds, but a whole network from pixels."""

    def _network(self) -> nn.Module:
        return UNet(self.width_, self.count_, self.hidden)


def segmentation(given: Inputs, sizes: Sizes = Sizes(), sky: MockSky = SKY) -> Result:
    """Intersection over union of arms and bars, of galaxies that nothing was learnt from."""
    seen = _spirals(given, sky, sizes.labels[-1] + sizes.tested)
    learn, test = seen.take(slice(sizes.labels[-1])), seen.take(slice(sizes.labels[-1], None))
    turns, truth = [turned(learn, k) for k in range(TURNS)], test["maps"].flux > 0.5
    frozen = Frozen(store.load(CLIP).eval(), part="image")
    ways: tuple[tuple[str, Segmenter, Callable[[Observation], np.ndarray]], ...] = (
        (HEAD, Segmenter(steps=sizes.steps), lambda one: frozen.patches(Rows.of(one))),
        (U_NET, FromPixels(hidden=16, steps=sizes.steps_of_u_net), lambda one: _pixels(frozen.model, one["image"])),
    )
    said: dict[tuple[str, int], Bool[np.ndarray, "object kind y x"]] = {}
    for name, kind, read in ways:
        x, asked, marked = [read(one) for one in turns], read(test), [one["maps"].flux for one in turns]
        for labels in sizes.labels:
            judge = np.tile(aside(np.arange(labels), 0.2, 0), TURNS)
            given_x, given_y = (np.concatenate([one[:labels] for one in each]) for each in (x, marked))
            with given.count(f"{name}, {labels} maps") as watch:
                kind.fit(given_x, given_y, judge=judge, watch=watch if callable(watch) else None)
            said[name, labels] = kind.predict(asked)
    for labels in sizes.labels:
        said[MEAN, labels] = _mean_map(learn["maps"].flux[:labels] > 0.5, len(test))
    return _table(truth, said, sizes.labels, test)


def _table(
    truth: Bool[np.ndarray, "object kind y x"],
    said: dict[tuple[str, int], Bool[np.ndarray, "object kind y x"]],
    labels: Sequence[int],
    test: Observation,
) -> Result:
    def scored(name: str, i: int) -> list[str]:
        return [str(iou(truth[:, i], said[name, n][:, i])) for n in labels]

    rows = tuple((kind, name, *scored(name, i)) for i, kind in enumerate(KINDS) for name in (HEAD, U_NET, MEAN))
    bars = int(truth[:, 1].any((1, 2)).sum())
    title = (
        f"Arms and bars of {len(truth)} mock spirals, {bars} of them with a bar to be seen; the truth is "
        "the renderer's: where a third of the disc's light is the arms', a sixth the bar's. Intersection over union"
    )
    grid = Grid(title, ("of", "by", *(f"{n} maps learnt" for n in labels)), rows)
    ours, theirs = said[HEAD, labels[-1]], said[U_NET, labels[-1]]
    keys = ("aion/arms", "aion/bars")
    scores = {key: iou_gain(truth[:, i], ours[:, i], theirs[:, i]) for i, key in enumerate(keys)}
    drawn = {
        f"{kind}, {name}": one[:SHOWN, i].astype(int).tolist()
        for i, kind in enumerate(KINDS)
        for name, one in (("truth", truth), (HEAD, ours), (U_NET, theirs))
    }
    return Result(scores, (grid,), {"maps": drawn, "maps_light": small(test, SHOWN).tolist()})


# --- galaxies and their maps --------------------------------------------------------------------------------------


def large_spirals(sky: MockSky, many: int) -> Int64[np.ndarray, " object"]:
    """The numbers of the first so many galaxies with arms to be seen: large, less than 60° inclined, not merging.

    Raises BadValue where there are fewer.
    """
    found = np.zeros(0, dtype=np.int64)
    for start in range(0, len(sky), 500):
        truth = sky.population.truth(np.arange(start, min(start + 500, len(sky))))
        large = (truth.disc_arcsec > 2) & (truth.disc_arcsec < 5)
        fit = large & (truth.arms > 0) & ~truth.is_merger & (truth.inclination_deg < 60)
        found = np.concatenate([found, truth.index[fit]])
        if len(found) >= many:
            return found[:many]
    raise BadValue("large spirals", saw=f"{len(found)} of {len(sky)}", want=many, hint="a larger sky")


def maps(sky: MockSky, index: Int64[np.ndarray, " object"]) -> Bool[np.ndarray, "object kind y x"]:
    """Whose light it is, of `KINDS`, in the middle `SIDE_PX` of the cut-outs and binned."""
    light = {name: _binned(centred(one, SIDE_PX)) for name, one in sky.components(index).items()}
    camera = CAMERAS["legacysurvey"]
    noise = sky_sigma(camera)[camera.bands.index("r")]
    bright = sum(light.values()) > noise
    disc = light["disc"] + light["bar"] + light["arms"] + light["clumps"]
    return np.stack([(light[kind] > share * disc) & bright for kind, share in SHARES.items()], axis=1)


def _spirals(given: Inputs, sky: MockSky, many: int, batch: int = 50) -> Observation:
    """Parts: image, in the middle `SIDE_PX`, and maps, as planes of an image: they are turned together."""
    index, pieces = large_spirals(sky, many), []
    with given.count("spirals of the mock sky") as watch:
        for start in range(0, many, batch):
            rows = index[start : start + batch]
            seen = only(sky.take(rows), "image")
            image = replace(seen["image"], flux=centred(seen["image"].flux, SIDE_PX), ivar=None, good=None)
            planes = Image(flux=maps(sky, rows).astype(np.float32), bands=KINDS, unit="share")
            pieces.append(seen | {"image": image, "maps": planes})
            if callable(watch):
                watch(start + len(rows), many)
    return concatenate(pieces)


def _pixels(model: nn.Module, image: Image) -> Float[np.ndarray, "object y x band"]:
    """The picture as the model's own codec stretches it, binned."""
    codec = next(one for one in model.codecs if isinstance(one, RasterPatches))
    flux = np.nan_to_num(image.flux[:, [image.bands.index(band) for band in codec.bands]])
    picture = codec.stretch.forward(torch.from_numpy(np.ascontiguousarray(flux))).numpy()
    return _binned(picture).transpose(0, 2, 3, 1).astype(np.float16)


def _binned(pixels: np.ndarray) -> np.ndarray:
    """The mean of each square of `BINNED` px."""
    side = SIDE_PX // BINNED
    return pixels.reshape(*pixels.shape[:-2], side, BINNED, side, BINNED).mean((-3, -1))


def _mean_map(learnt: Bool[np.ndarray, "object kind y x"], many: int) -> Bool[np.ndarray, "other kind y x"]:
    """The same for all: where it was most often, above the threshold that was best for those learnt."""
    chance = learnt.mean(0, keepdims=True).repeat(len(learnt), 0)
    said = chance[:1] > best_thresholds(chance, learnt)[:, None, None]
    return said.repeat(many, 0)


TASKS = (Task("segmentation", segmentation, models=(CLIP,)),)
