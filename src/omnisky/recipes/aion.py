"""AION-1's pre-training (Parker et al. 2025, arXiv:2510.17960), and a small one for two cores and the mock sky.

Both learn from token ids made beforehand: `codec.token_shards.tokenize` writes them, `read_shards` is the source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from omnisky.codec.token_shards import IdTokens
from omnisky.model.any_to_any import AION
from omnisky.model.deal import DirichletRule, Focus
from omnisky.model.masked import SIZES, AnyToAnyConfig, gated, published
from omnisky.train.config import Run
from omnisky.train.optim import AdamW

IDS = tuple(IdTokens(name=name) for name in AION)
"""ids of all forty modalities, as they lie in the shards"""


def aion(size: str = "base") -> Run:
    """The published training: 205,000 steps of 8,192 objects that show 256 tokens and are asked for 128.

    AdamW to 2e-4, a tenth of the steps warm-up (its documents say so, the paper leaves it open), then a cosine; weight
    decay 0.05, bf16. Pairs of surveys as they exist; how often each was drawn is not published.

    Base on 64 H100, worked out, not measured (D = 768, 12 blocks each):

        GFLOP an object     encoder 256·12·24·D² = 44, its attention 12·4·256²·D = 2; decoder 128·12·28·D² = 25, keys
                            and values of the context 12·256·4·D² = 7, its attention 2; answers 1: 81, times 3 to learn
        time a step         128 objects a GPU are 31 TFLOP: 0.08 s at 40 % of 989 TFLOP/s. The paper's 1.5 days are
                            0.63 s a step, so its data or its kernels kept the GPUs waiting
        memory of a GPU     weights, gradients and two moments in fp32: 16 bytes · 314 million = 5 GB; activations
                            34·D bytes a token and block (Korthikanti et al. 2022, arXiv:2205.05198): 128·384·12·34·D
                            = 15 GB. xlarge has 3.1 billion parameters, 50 GB before any activation: shard its moments
    """
    return Run(
        name=f"aion-{size}",
        model=published(size),
        codecs=IDS,
        steps=205_000,
        batch=8192,
        accumulate=1,
        optim=AdamW(peak=2e-4, warmup=20_500, floor=0.0, weight_decay=0.05, betas=(0.9, 0.95)),
        judge_every=1000,
        save_every=1000,
    )


NUMBERS = tuple(name for name, one in AION.items() if one.length == 1)
PHOTOMETRY = tuple(name for name in AION if name.startswith(("tok_flux_", "tok_mag_")))
FOCUS = (
    Focus(share=0.35, names=("tok_spectrum_desi", "tok_spectrum_sdss", "tok_z")),
    Focus(share=0.3, names=("tok_image", "tok_image_hsc", *PHOTOMETRY)),
    Focus(share=0.5, names=NUMBERS),
)
MINI = AnyToAnyConfig(
    core=gated(6, 112, 4),
    decoder_depth=4,
    shown=320,
    asked=96,
    rule=DirichletRule(shown=(0.05, 0.05, 0.2, 1.0), asked=(0.2, 1.0), kept_out=0.9, numbers_first=True, focus=FOCUS),
    tied=True,
    spread=0.2,
    ordered=True,
    alike=True,
)
"""7.3 million parameters, of which 5.6 are the one table of 50,083 ids"""


def aion_mini() -> Run:
    """All forty modalities in 7.3 million parameters, of which 5.6 are the one table of 50,083 ids.

    The table is read, told and answered with, else ids alone would be 16.8 million; it begins with alike ids alike, and
    large enough beside places, since a number's id is met by ten objects only. A whole spectrum and all numbers may be
    shown; numbers come first, and modalities are kept out of what is shown more or less often, so that posteriors from
    few inputs are learnt too. Half of the objects show hardly more than one modality: that is what translations start
    from. Of objects that two surveys have spectra (images) of, four (three) in ten take part with these alone: among
    all modalities, that a line stands where the other survey saw it is forgotten again. It is best learnt before: start
    from a run of `aion-mini-spectra`. Of all others three in ten take part with their numbers alone.
    """
    return Run(
        name="aion-mini",
        model=MINI,
        codecs=IDS,
        steps=3000,
        batch=64,
        optim=AdamW(peak=2e-3, warmup=200, floor=0.02, weight_decay=0.05, betas=(0.9, 0.95)),
        judge_every=200,
        save_every=200,
    )


def aion_mini_spectra() -> Run:
    """The beginning of `aion-mini`: DESI's spectra from SDSS's, and the other way.

    A line is a few tokens of 272, and what the others say is mostly noise. Among all modalities 1,500 steps do not
    teach that a line stands where the other survey saw it; of pairs of spectra a few hundred do.
    """
    run = aion_mini()
    rule = DirichletRule(shown=(0.05,), asked=(0.2, 1.0))
    return replace(
        run,
        name="aion-mini-spectra",
        model=replace(MINI, shown=280, asked=273, rule=rule),
        codecs=tuple(one for one in IDS if one.name.startswith("tok_spectrum")),
        steps=500,
        batch=48,
        optim=replace(run.optim, warmup=20, floor=0.2),
    )


RECIPES: dict[str, Callable[[], Run]] = {f"aion-{size}": partial(aion, size=size) for size in SIZES}
RECIPES |= {"aion-mini-spectra": aion_mini_spectra, "aion-mini": aion_mini}
