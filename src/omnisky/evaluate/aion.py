"""What an any-to-any model knows of a sky whose truth is known: posteriors, translations, an unseen pair, probes.

The questions are those of AION-1 (Parker et al. 2025, arXiv:2510.17960, §6) and those it leaves open: are posteriors
honest, are lines where they belong, is flux conserved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from omnisky.adapt.score import Score
from omnisky.evaluate.aion_drawn import (
    ImagesTold,
    Known,
    SpectraTold,
    images_told,
    mean_shape,
    spectra_told,
    tokens_of,
)
from omnisky.evaluate.aion_probes import Probed, probes
from omnisky.evaluate.aion_runs import Ready, Sizes
from omnisky.evaluate.astroclip import Claim
from omnisky.evaluate.pairs import Counting
from omnisky.evaluate.posteriors import Told, gain, judge_halves
from omnisky.generate import Posterior, posterior

PHOTOMETRY = ("tok_flux_g", "tok_flux_r", "tok_flux_i", "tok_flux_z")
ASKED: Mapping[str, tuple[str, ...]] = {
    "photometry": PHOTOMETRY,
    "photometry + image": (*PHOTOMETRY, "tok_image"),
    "photometry + image + spectrum": (*PHOTOMETRY, "tok_image", "tok_spectrum_desi"),
}
"""inputs → tokens that are shown"""
HSC = ("tok_mag_g", "tok_mag_r", "tok_mag_i", "tok_mag_z", "tok_mag_y")
OTHER_SURVEY, UNSEEN = "SDSS spectrum → DESI", "HSC image + photometry → DESI (unseen pair)"
SPECTRA: Mapping[str, tuple[str, ...]] = {
    OTHER_SURVEY: ("tok_spectrum_sdss",),
    "Legacy image + photometry → DESI": (*PHOTOMETRY, "tok_image"),
    UNSEEN: (*HSC, "tok_image_hsc"),
    "Gaia XP → DESI": ("tok_xp_bp", "tok_xp_rp"),
}
IMAGES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "Legacy → HSC": ((*PHOTOMETRY, "tok_image"), "tok_image_hsc"),
    "HSC → Legacy": ((*HSC, "tok_image_hsc"), "tok_image"),
}
SHOWN = 6


@dataclass(frozen=True, eq=False)
class Table:
    """All that was measured."""

    redshifts: tuple[Told, ...]
    posteriors: Mapping[str, Posterior]
    """of a few test objects, by inputs"""
    redshift_of_shown: Float[np.ndarray, " object"]
    spectra: tuple[SpectraTold, ...]
    images: tuple[ImagesTold, ...]
    probed: tuple[Probed, ...]
    claims: tuple[Claim, ...]
    learnt: int


def measure(ready: Ready, sizes: Sizes, count: Counting) -> Table:
    """Ask everything, of objects that nobody learnt from; minutes."""
    validation, test = (ready.galaxies(rows)[: sizes.asked // 2] for rows in (ready.validation, ready.test))
    with count("redshifts"):
        redshifts, shown = _redshifts(ready, validation, test)
    few, others = ready.test[: sizes.drawn], validation[: max(sizes.drawn // 2, 2)]
    seen = ready.source.take(few)
    true = Known(few, seen, mean_shape(ready.source.take(others)["spectrum"]))
    with count("spectra"):
        drawn = [spectra_told(ready, way, inputs, true) for way, inputs in SPECTRA.items()]
    with count("images"):
        images = tuple(images_told(ready, way, *told, few, seen) for way, told in IMAGES.items())
    with count("probes"):
        unseen = np.concatenate([validation, test])  # nothing of a probe is fitted on either
        probed = probes(ready, ASKED, ready.galaxies(ready.learnt), unseen, sizes.probed)
    spectra = tuple(one for one in drawn if one is not None)
    known = ready.truth["redshift"][test[:SHOWN]]
    claims = tuple(judged(redshifts, spectra, images, probed))
    return Table(redshifts, shown, known, spectra, images, probed, claims, len(ready.learnt))


def _redshifts(ready: Ready, validation: np.ndarray, test: np.ndarray) -> tuple[tuple[Told, ...], dict[str, Posterior]]:
    told, shown = [], {}
    for inputs, names in ASKED.items():
        fitted, asked = (
            (posterior(ready.model, tokens_of(ready, rows, names), "z", batch=64), ready.truth["redshift"][rows])
            for rows in (validation, test)
        )
        told.append(judge_halves(inputs, fitted, asked))
        shown[inputs] = asked[0].take(slice(0, SHOWN))
    return tuple(told), shown


def judged(
    redshifts: Sequence[Told], spectra: Sequence[SpectraTold], images: Sequence[ImagesTold], probed: Sequence[Probed]
) -> list[Claim]:
    """What should hold, each with what was found."""
    claims = []
    for less, more in pairwise(redshifts):
        found = gain(less.crps_each, more.crps_each)
        words = f"CRPS of the redshift falls: {less.inputs} → {more.inputs}"
        claims.append(Claim(words, found, found.value > 3 * found.error, "> 3 σ"))
    for one in redshifts:
        for share in ("68%", "95%"):
            off = Score(one.covered[share].value - float(share[:-1]) / 100, one.covered[share].error)
            words = f"{share} intervals hold {share}: {one.inputs}"
            claims.append(Claim(words, off, abs(off.value) <= 0.03, "within 0.03"))
    named = {each.way: each for each in spectra}
    if OTHER_SURVEY in named and (lines := named[OTHER_SURVEY].lines) is not None:
        words = "Hα within 2 latent pixels, of bright emission-line galaxies, from SDSS"
        claims.append(Claim(words, lines, lines.value >= 0.8, "≥ 0.8"))
    if UNSEEN in named:
        r2, gained = named[UNSEEN].r2, named[UNSEEN].gain
        claims.append(Claim("Unseen pair beats the mean spectrum", r2, r2.value > 3 * r2.error, "> 3 σ"))
        claims.append(Claim("… and another object's", gained, gained.value > 3 * gained.error, "> 3 σ"))
    for told in images:
        words = f"Flux is conserved: {told.way}, median over objects and bands"
        claims.append(Claim(words, told.median, abs(told.median.value) <= 0.05, "within 0.05"))
    found = probed[-1].gain["redshift"]
    words = f"Attention reads more redshift than the mean: {probed[-1].inputs}"
    claims.append(Claim(words, found, found.value > 3 * found.error, "> 3 σ"))
    return claims
