"""docs/codecs.md out of what `omnisky evaluate codec` wrote: what the learned codecs lose, on mock and on real sky.

    omnisky evaluate codec SKY runs/codec-image-mini-whole/model --out runs/codec/mock
    python dev/codecs_page.py "mock sky=runs/codec/mock" "SDSS cut-outs=runs/codec/sdss" …

Each word is NAME=FOLDER. The figures are put beside the page.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from PIL import Image

HEADS = ("data", "tokens", "objects", "bands", "error / σ", "R²", "AUC of bad", "codes used", "perplexity", "bits")
COLOURS = 64
"""of a figure: a third of the bytes"""
DOCS = Path(__file__).resolve().parents[1] / "docs"


def score(pair: list[float] | None) -> str:
    return "–" if pair is None else f"{pair[0]:.3f} ± {pair[1]:.3f}"


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ("---",) * len(heads), *rows))


def line(name: str, told: dict[str, Any]) -> tuple[str, ...]:
    """One model on one set of data."""
    return (
        *(name, f"`{told['tokens']}`", f"{told['objects']:,}", " ".join(told["bands"]) or "–"),
        *(score(told[key]) for key in ("error_in_sigma", "r2", "bad_auc")),
        *(f"{told['codes_used']:.1%} of {told['codes']:,}", f"{told['perplexity']:.0f}"),
        f"{told['bits']:,.0f} for {told['bits_before']:,.0f}",
    )


def photometry(name: str, told: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (name, one["band"], f"{one['mag']:.1f}", f"{one['objects']:,}", score(one["bias"]))
        for one in told["photometry"]
    ]


def page(given: dict[str, Path], docs: Path) -> str:
    """The whole page; figures go to `docs`."""
    rows, fluxes, spans, figures = [], [], [], []
    for name, folder in given.items():
        for told in json.loads((folder / "codec.json").read_text(encoding="utf-8"))["models"].values():
            rows.append(line(name, told))
            fluxes += photometry(name, told)
            reach = ", ".join(f"{band} {mag:.0f}" for band, mag in told["unbiased_mag"].items())
            spans += [f"- {name}: {reach} mag"] if reach else []
            for file in (f"{told['tokens']}.png", f"{told['tokens']}-photometry.png"):
                if (folder / file).exists():
                    own = f"codec-{name.lower().replace(' ', '-')}-{file}"
                    Image.open(folder / file).convert("RGB").quantize(COLOURS).save(docs / own, optimize=True)
                    figures.append(f"![{name}, {told['tokens']}]({own})")
    parts = [HEAD, table(HEADS, rows)]
    if fluxes:
        heads = ("data", "band", "mag", "objects", "flux after / before − 1, median")
        parts += ["## Photometry", PHOTOMETRY, "\n".join(spans), table(heads, fluxes)]
    parts += ["## Before and after", "\n\n".join(figures), "## Light curves", CURVES, "## Another survey", SURVEY]
    return "\n\n".join(parts) + "\n"


HEAD = """# What the learned codecs lose

Written by `python dev/codecs_page.py` from what `omnisky evaluate codec` measured; errors are bootstrap over
objects. Error / σ is the root mean square of (after − before) · √ivar, over pixels or epochs that count: 1 is
the noise itself. Codes used and perplexity are of the ids of the objects looked at. Bits are those of an
object's tokens, and of its numbers as they came. "mock sky" is the sky of `omnisky evaluate aion` (rows of the
fourteenth session); "mock sky to r 20", a tenth stars, and "mock maps" are of `omnisky mock --objects 12000`. Which
runs the weights are of, and where they were cut short, is in `dev/LOG.md`."""

PHOTOMETRY = """The flux within 8 px of the middle, by its magnitude before. The longest runs of neighbouring
bins in which the median changes by at most 2 %:"""

CURVES = """AION-1 has no light curves. Their codec ships, trained on 18,000 mock ones:

```
import omnisky
from omnisky.codec.light_curve import LightCurveCodec

codec = LightCurveCodec(network=omnisky.load("omnisky-light-curve"))
tokens = omnisky.tokenize(curves, [codec])
again = omnisky.detokenize(tokens, like=curves, codecs=[codec])
```"""

SURVEY = """Images of a survey that the codec does not know become a row of bands more. Nothing else of the
network need learn; channels begin as those that they are most like. So the row of SDSS cut-outs above was made:

```
from dataclasses import replace

import omnisky
from omnisky.codec.book import CodecBook
from omnisky.codec.image import BandRow, ImageCodec, Planes, widened
from omnisky.recipes import recipe
from omnisky.train.loop import train
from omnisky.train.optim import AdamW

row = BandRow(survey="sdss", prefix="SDSS", bands=tuple("ugriz"), clip=(10.0, 30.0, 30.0, 60.0, 100.0),
              pixel_scale_arcsec=0.396, token="tok_image_sdss", part="image")
known = CodecBook("src/omnisky/weights/omnisky-aion")["tok_image"].network
grown = widened(known, row, like=("DES-G", "DES-G", "DES-R", "DES-I", "DES-Z"), ends_alone=True)
planes = Planes(config=grown.config, survey="sdss", part="image", name="planes_sdss", floor=0.02)
run = replace(recipe("codec-image-mini"), name="codec-sdss", model=grown.config, codecs=(planes,), steps=500,
              optim=AdamW(peak=1e-2, warmup=50, floor=0.01, weight_decay=0.0))
network = train(run, "runs/codec-sdss", omnisky.read("sdss_frames_ugriz"), start=grown)
tokens = ImageCodec(network=network, survey="sdss").encode(omnisky.read("sdss_frames_ugriz"))
```

`clip` is the largest flux of a pixel in the survey's own unit, `zero_point_mag` says which that is (22.5,
nanomaggies, if nothing is said). Images want `ivar`, which the loss weighs pixels by. Nothing is resampled.
Tokens of the old surveys stay the same to the bit, through training too, as `tests/codec/test_learned.py`
holds. Images by DECam (the Dark Energy Survey) need no row: they are `legacysurvey`'s bands."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("given", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--docs", type=Path, default=DOCS)
    asked = parser.parse_args()
    named = {name: Path(folder) for name, _, folder in (word.partition("=") for word in asked.given)}
    asked.docs.mkdir(parents=True, exist_ok=True)
    (asked.docs / "codecs.md").write_text(page(named, asked.docs), encoding="utf-8")
