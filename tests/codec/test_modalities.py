"""The table of modalities: complete, as the reference has it, as the documentation says it, and found in a mock sky."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omnisky.codec.modalities import DOMAINS, PLACE, markdown
from omnisky.observe.survey import SURVEYS
from omnisky.observe.types import Image, Observation, Scalars

DOCS = Path(__file__).parents[2] / "docs" / "modalities.md"


def test_there_are_forty_of_them():
    assert len(DOMAINS) == 40
    assert len({domain.title for domain in DOMAINS.values()}) == 40
    assert all(key == domain.key for key, domain in DOMAINS.items())


def test_tokens_and_vocabularies_are_the_releases():
    """Counts of polymathic-aion 0.0.2: 38 folders of codecs, 1,024 ids but for images, map, catalogue and redshift."""
    assert len({domain.folder for domain in DOMAINS.values()}) == 38
    odd = {key: domain.vocabulary for key, domain in DOMAINS.items() if domain.vocabulary != 1024}
    assert odd == {"tok_image": 4375, "tok_image_hsc": 4375, "tok_segmap": 1000, "catalog": 3468, "tok_z": 1025}
    long = {key: domain.tokens for key, domain in DOMAINS.items() if domain.tokens > 1}
    pictures = {"tok_image": 576, "tok_image_hsc": 576, "tok_segmap": 144, "catalog": 100}
    assert long == pictures | {"tok_spectrum_desi": 273, "tok_spectrum_sdss": 273, "tok_xp_bp": 55, "tok_xp_rp": 55}
    kinds = [domain.codec for domain in DOMAINS.values()]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    numbers = {"Scalar": 18, "LogScalar": 13, "MultiScalar": 2, "GridScalar": 1}
    assert counts == numbers | {"Image": 2, "Spectrum": 2, "Catalog": 1, "ScalarField": 1}


def test_every_survey_has_its_row():
    assert {survey for domain in DOMAINS.values() for survey in domain.surveys} <= set(SURVEYS)


def test_the_documentation_is_the_codes():
    assert DOCS.read_text(encoding="utf-8") == markdown()


def image(survey: str, part: str = "image") -> Observation:
    return Observation.of(["a"], **{part: Image(flux=np.zeros((1, 1, 4, 4)), bands=("g",), survey=survey)})


@pytest.mark.parametrize(
    ("seen", "legacy", "hsc"),
    [
        (image("legacysurvey"), "image", None),
        (image(""), "image", None),
        (image("hsc"), None, "image"),
        (image("hsc", "image_hsc"), None, "image_hsc"),
        (image("legacysurvey", "image_legacysurvey"), "image_legacysurvey", None),
        (image("sdss"), None, None),
    ],
)
def test_images_are_found_by_their_survey(seen, legacy, hsc):
    assert (DOMAINS["tok_image"].found(seen), DOMAINS["tok_image_hsc"].found(seen)) == (legacy, hsc)


def test_columns_and_places_are_found_where_they_are():
    scalars = Scalars(values=np.ones((2, 2)), names=("EBV", "Z"))
    seen = Observation.of("ab", ra=[1.0, np.nan], dec=[np.nan, np.nan], scalars_desi=scalars)
    assert DOMAINS["tok_z"].found(seen) == "scalars_desi"
    assert DOMAINS["tok_ebv"].found(seen) is None, "a column of another survey"
    assert (DOMAINS["tok_ra"].found(seen), DOMAINS["tok_dec"].found(seen)) == (PLACE, None)
    assert DOMAINS["tok_flux_g"].found(replace(seen, parts={"scalars": scalars})) is None


def test_every_modality_is_found_in_the_mock_sky(mock_all):
    where = {key: domain.found(mock_all) for key, domain in DOMAINS.items()}
    assert {key: part for key, part in where.items() if part != DOMAINS[key].part} == {}
    for domain in DOMAINS.values():
        if domain.columns and domain.part != PLACE:
            part = mock_all[domain.part]
            units = {part.units[part.names.index(name)] for name in domain.columns}
            assert units == {domain.unit} or domain.key == "catalog", domain.key
