"""Two surveys as one: rows from the match, measurements from both, and nothing where there is nothing."""

import numpy as np
import pytest

from omnisky.errors import BadValue
from omnisky.observe.join import join, joined, star
from omnisky.observe.loader import Loader, Source
from omnisky.observe.match import Places, all_pairs, crossmatch, mutual, nearest
from omnisky.observe.types import Image, Observation, Scalars, Spectrum


def spectra(n: int = 5, shift_deg: float = 0.0) -> Observation:
    """Object i at RA 10 i; its flux is i everywhere."""
    flux = np.repeat(np.arange(float(n))[:, None], 4, axis=1)
    wave = np.tile([4000.0, 4001, 4002, 4003], (n, 1))
    return Observation.of(
        [f"d{i}" for i in range(n)],
        10.0 * np.arange(n) + shift_deg,
        np.zeros(n),
        spectrum=Spectrum(flux=flux, wavelength_aa=wave, ivar=flux + 1, good=flux >= 0, survey="desi"),
        scalars=Scalars(values=np.arange(float(n))[:, None], names=("redshift",)),
    )


def images(order: list[int], survey: str = "legacysurvey") -> Observation:
    """Images of the objects in this order, a tenth of an arcsec north; display colours are 10 i."""
    flux = np.array([np.full((3, 2, 2), 10 * i) for i in order], dtype=np.uint8)
    return Observation.of(
        [f"l{i}" for i in order],
        10.0 * np.array(order),
        np.full(len(order), 0.1 / 3600),
        image=Image(flux=flux, bands=("red", "green", "blue"), unit="display", survey=survey),
        scalars=Scalars(values=100 + np.array(order, dtype=float)[:, None], names=("mag",)),
    )


def test_matches_carry_what_both_surveys_measured():
    left, right = spectra(), images([3, 7, 1, 0])
    both = joined(left, right, crossmatch(left, right, 1.0))
    assert both.object_id.tolist() == ["d0", "d1", "d3"]
    assert both["match_legacysurvey"].object_id.tolist() == ["l0", "l1", "l3"]
    assert both["match_desi"].object_id.tolist() == ["d0", "d1", "d3"]
    np.testing.assert_allclose(both["match_legacysurvey"].separation_arcsec, 0.1, atol=1e-9)
    np.testing.assert_array_equal(both["match_legacysurvey"].dec, 0.1 / 3600)
    np.testing.assert_array_equal(both.dec, 0)
    assert both["spectrum"].flux[:, 0].tolist() == [0, 1, 3]
    assert both["image"].flux[:, 0, 0, 0].tolist() == [0, 10, 30]
    assert both["scalars_desi"]["redshift"].tolist() == [0, 1, 3]
    assert both["scalars_legacysurvey"]["mag"].tolist() == [100, 101, 103]
    assert "scalars" not in both and all(both[name].there().all() for name in both.parts)


def test_those_alone_are_kept_when_asked_and_hold_nothing():
    left, right = spectra(3), images([2, 7])
    found = crossmatch(left, right, 1.0)
    every = joined(left, right, found, keep_left=True, keep_right=True)
    assert every.object_id.tolist() == ["d2", "d0", "d1", "l7"]
    assert every.ra.tolist() == [20, 0, 10, 70]
    assert every["spectrum"].there().tolist() == [True, True, True, False]
    assert every["image"].there().tolist() == [True, False, False, True]
    assert every["image"].flux[:, 0, 0, 0].tolist() == [20, 0, 0, 70]
    spectrum = every["spectrum"]
    assert np.isnan(spectrum.flux[3]).all() and not spectrum.ivar[3].any() and not spectrum.good[3].any()
    assert np.isnan(spectrum.wavelength_aa[3]).all() and (np.diff(spectrum.wavelength_aa[:3]) > 0).all()
    np.testing.assert_array_equal(every["scalars_legacysurvey"]["mag"], [102, np.nan, np.nan, 107])
    np.testing.assert_array_equal(every["match_legacysurvey"].object_id, ["l2", "", "", "l7"])
    np.testing.assert_allclose(every["match_legacysurvey"].separation_arcsec, [0.1, np.nan, np.nan, np.nan], atol=1e-9)
    assert joined(left, right, found, keep_left=True).object_id.tolist() == ["d2", "d0", "d1"]
    assert joined(left, right, found, keep_right=True).object_id.tolist() == ["d2", "l7"]


def test_what_was_absent_stays_absent():
    left = spectra(3)
    left = left | {"spectrum": left["spectrum"].take([0, 1, 2])}
    object.__setattr__(left["spectrum"], "present", np.array([True, False, True]))
    right = images([0, 1])
    every = joined(left, right, crossmatch(left, right, 1.0), keep_left=True)
    assert every["spectrum"].there().tolist() == [True, False, True]
    assert every["image"].there().tolist() == [True, True, False]


def test_no_match_at_all_is_an_empty_set_or_everybody_alone():
    left, right = spectra(2), images([7])
    found = crossmatch(left, right, 1.0)
    assert len(joined(left, right, found)) == 0
    every = joined(left, right, found, keep_left=True, keep_right=True)
    assert every.object_id.tolist() == ["d0", "d1", "l7"]
    assert every["image"].flux.shape == (3, 3, 2, 2)
    assert joined(left, right.take([]), nearest(left, right.take([]), 1.0), keep_left=True)["image"].flux.shape[0] == 2


@pytest.mark.parametrize("rows", [slice(1, 3), [2, 0, 0], [], np.array([True, False, False])])
def test_a_join_is_a_source(rows):
    """Rows fetched when asked for are those of the whole; many to one is fine."""
    left, right = spectra(3), images([2, 0, 1])
    source = join(left, right, nearest(left, right, 36 * 3600.0))
    assert isinstance(source, Source) and len(source) == 3 and source.surveys == ("desi", "legacysurvey")
    some, every = source.take(rows), source.take(slice(None)).take(rows)
    assert some.object_id.tolist() == every.object_id.tolist()
    np.testing.assert_array_equal(some["image"].flux, every["image"].flux)


def test_the_loader_reads_a_join():
    left, right = spectra(5), images([4, 3, 2, 1, 0])
    batch = next(iter(Loader(join(left, right, mutual(left, right, 1.0)), 4, seed=1)))
    np.testing.assert_array_equal(batch["image"].flux[:, 0, 0, 0], 10 * batch["spectrum"].flux[:, 0])


def test_names_are_the_parts_own_or_left_and_right_or_given():
    left, right = images([0, 1], survey="sdss"), images([1, 0], survey="sdss")
    found = mutual(left, right, 1.0)
    assert {"image_left", "image_right", "match_left", "match_right"} <= set(joined(left, right, found).parts)
    named = joined(left, right, found, names=("dr8", "dr17"))
    assert {"image_dr8", "scalars_dr17"} <= set(named.parts)
    with pytest.raises(BadValue, match="two different"):
        joined(left, right, found, names=("a", "a"))


def test_parts_that_would_fall_together_are_refused_not_lost():
    """A join of a join, both with "left" and "right": the second match_left would have replaced the first."""
    left, right = images([0, 1], survey="sdss"), images([1, 0], survey="sdss")
    both = joined(left, right, mutual(left, right, 1.0))
    third = images([0, 1], survey="sdss")
    found = mutual(both, third, 1.0)
    with pytest.raises(BadValue, match=r"two parts of one name.*match_left.*Try: join\("):
        join(both, third, found)
    assert {"match_left", "match_a", "match_b"} <= set(joined(both, third, found, names=("a", "b")).parts)


def test_where_a_join_is_can_be_told_without_reading_it():
    class Unread(Observation):
        def take(self, index):
            assert not len(index), "read"
            return super().take(index)

    left, right = spectra(3), images([2, 7])
    found = crossmatch(left, right, 1.0)
    sides = [Unread(one.object_id, one.ra, one.dec, one.parts) for one in (left, right)]
    source = join(*sides, found, keep_left=True, keep_right=True)
    told, every = Places.of(source), joined(left, right, found, keep_left=True, keep_right=True)
    assert told.object_id.tolist() == every.object_id.tolist() == ["d2", "d0", "d1", "l7"]
    np.testing.assert_array_equal([told.ra, told.dec], [every.ra, every.dec])


def test_a_match_of_other_data_is_refused():
    left, right = spectra(3), images([0, 1, 2])
    with pytest.raises(BadValue, match="other data"):
        joined(left, right.take([0]), mutual(left, right, 1.0))


# --- many surveys -------------------------------------------------------------------------------------------------


def test_a_star_join_has_the_anchors_objects_and_everybodys_measurements():
    surveys = {"desi": spectra(4), "legacy": images([3, 2, 1]), "hsc": images([0, 1, 3])}
    seen = star(surveys, 1.0).take(slice(None))
    assert seen.object_id.tolist() == ["d1", "d3"]
    assert seen["match_hsc"].object_id.tolist() == seen["match_legacy"].object_id.tolist() == ["l1", "l3"]
    assert {"spectrum", "image_legacy", "image_hsc", "scalars_desi"} <= set(seen.parts)
    every = star(surveys, 1.0, keep_anchor=True).take(slice(None))
    assert every.object_id.tolist() == ["d0", "d1", "d2", "d3"]
    assert every["image_hsc"].there().tolist() == [True, True, False, True]
    assert every["image_legacy"].there().tolist() == [False, True, True, True]


def test_a_star_wants_rays_and_one_match_each():
    with pytest.raises(BadValue, match="at least one more"):
        star({"desi": spectra()}, 1.0)
    with pytest.raises(BadValue, match="mutual or nearest"):
        star({"desi": spectra(2), "hsc": images([0, 0])}, 1.0, pairs=all_pairs)
