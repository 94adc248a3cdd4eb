"""The nouns of observe: rows stay together, shapes that do not fit are refused, absent is not zero."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnisky.errors import BadValue, MissingModality, ObservationError, ShapeMismatch
from omnisky.observe.types import (
    Cube,
    Image,
    Labels,
    LightCurve,
    Neighbours,
    Observation,
    Scalars,
    SegmentationMap,
    Spectrum,
    concatenate,
)

PARTS = ("image", "spectrum", "scalars", "segmentation", "lightcurve")


def sky(n: int) -> Observation:
    """n objects with every kind of part; each row of each part carries its own number."""
    row = np.arange(n, dtype=np.float32)
    here = np.arange(n) % 3 != 2
    return Observation.of(
        range(n),
        ra=np.arange(float(n)),
        dec=-np.arange(float(n)),
        image=Image(flux=np.tile(row[:, None, None, None], (1, 2, 4, 4)), bands=("g", "r"), present=here),
        spectrum=Spectrum(flux=np.tile(row[:, None], (1, 5)), wavelength_aa=np.tile(np.arange(5.0), (n, 1))),
        scalars=Scalars(values=row[:, None], names=("z",)),
        segmentation=SegmentationMap(label=np.tile(np.arange(n)[:, None, None], (1, 4, 4))),
        lightcurve=LightCurve(
            flux=np.tile(row[:, None], (1, 3)),
            time_mjd=np.zeros((n, 3)),
            band=np.zeros((n, 3), dtype=np.int64),
            bands=("r",),
        ),
    )


def row_numbers(seen: Observation) -> dict[str, list[float]]:
    first = {name: np.asarray(getattr(seen[name], seen[name]._first)) for name in PARTS}
    return {name: [float(row.flat[0]) for row in values] for name, values in first.items()}


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1), max_size=9))))
def test_rows_stay_together(chosen):
    n, index = chosen
    seen = sky(n).take(np.array(index, dtype=int))
    assert seen.object_id.tolist() == [str(i) for i in index]
    assert seen.ra.tolist() == index
    assert all(numbers == index for numbers in row_numbers(seen).values())
    assert seen["image"].there().tolist() == [i % 3 != 2 for i in index]


@pytest.mark.parametrize("index", [slice(1, 3), np.array([False, True, True, False])])
def test_slices_and_booleans_choose_too(index):
    assert sky(4).take(index).object_id.tolist() == ["1", "2"]


def test_one_object_is_row_zero_of_a_batch():
    assert row_numbers(sky(1)) == row_numbers(sky(3).take(slice(0, 1)))


def test_ids_are_strings_never_rounded():
    seen = Observation.of([39633345008634465, 39633345008634466])
    assert seen.object_id.tolist() == ["39633345008634465", "39633345008634466"]
    assert np.isnan(seen.ra).all() and np.isnan(seen.dec).all()


def test_parts_are_found_by_name():
    seen = sky(2)
    assert "image" in seen and "velocity" not in seen
    with pytest.raises(MissingModality, match="want velocity"):
        seen["velocity"]
    with pytest.raises(MissingModality, match="want z"):
        seen["scalars"]["w"]


def test_more_parts_leave_the_old_observation_alone():
    seen = Observation.of("ab")
    more = seen | {"scalars": Scalars(values=np.zeros((2, 1)), names=("z",))}
    assert "scalars" in more and "scalars" not in seen
    with pytest.raises(FrozenInstanceError):
        seen.ra = np.zeros(2)


# As a user meets them: without the shape checks of the test run.
@pytest.mark.usefixtures("unchecked")
def test_parts_of_other_lengths_are_refused():
    with pytest.raises(ShapeMismatch, match="scalars"):
        Observation.of("ab", scalars=Scalars(values=np.zeros((3, 1)), names=("z",)))
    with pytest.raises(ShapeMismatch, match="ra"):
        Observation.of("ab", ra=[1.0])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "make",
    [
        lambda: Image(flux=np.zeros((4, 4)), bands=("g",)),
        lambda: Image(flux=np.zeros((1, 4, 4)), bands=("g",)),
        lambda: Image(flux=np.zeros((1, 2, 4, 4)), bands=("g",)),
        lambda: Image(flux=np.zeros((1, 4, 4, 2)), bands=("g", "r")),
        lambda: Image(flux=np.zeros((2, 1, 4, 4)), bands=("g",), present=np.ones(1, dtype=bool)),
        lambda: Image(flux=np.zeros((1, 1, 4, 4)), bands=("g",), good=np.ones((1, 1, 4, 5), dtype=bool)),
        lambda: Spectrum(flux=np.zeros((1, 5)), wavelength_aa=np.zeros((1, 4))),
        lambda: Spectrum(flux=np.zeros((1, 5)), wavelength_aa=np.zeros((1, 5)), ivar=np.zeros((1, 4))),
        lambda: Scalars(values=np.zeros((2, 2)), names=("z",)),
        lambda: Scalars(values=np.zeros((2, 1)), names=("z",), units=("", "mag")),
    ],
)
def test_shapes_that_do_not_fit_are_refused(make):
    with pytest.raises(ShapeMismatch) as refused:
        make()
    assert refused.value.saw is not None and refused.value.want is not None
    assert isinstance(refused.value, ObservationError) and isinstance(refused.value, ValueError)


# --- ragged parts, labels, cubes, neighbours ----------------------------------------------------------------------


def spectrum(pixels: int, n: int = 1, **more) -> Observation:
    wave = np.tile(4000.0 + np.arange(pixels), (n, 1))
    part = Spectrum(flux=np.ones((n, pixels), np.float32), wavelength_aa=wave, **more)
    return Observation.of([f"{pixels}-{i}" for i in range(n)], spectrum=part)


def test_spectra_of_different_lengths_are_padded_where_they_are_joined():
    ivar = np.full((1, 3), 4, dtype=np.float32)
    seen = concatenate([spectrum(3, ivar=ivar), spectrum(5, ivar=np.ones((1, 5), np.float32))])["spectrum"]
    np.testing.assert_array_equal(seen.good, [[True] * 3 + [False] * 2, [True] * 5])
    np.testing.assert_array_equal(seen.wavelength_aa[0], [4000, 4001, 4002, np.nan, np.nan])
    assert np.isnan(seen.flux[0, 3:]).all() and seen.ivar[0].tolist() == [4, 4, 4, 0, 0]
    assert seen.flux.dtype == np.float32
    assert concatenate([spectrum(3), spectrum(3)])["spectrum"].good is None  # nothing to say
    with pytest.raises(BadValue, match="5 or more"):
        spectrum(5)["spectrum"].padded(4)
    with pytest.raises(BadValue, match="ragged"):
        Image(flux=np.zeros((1, 1, 2, 2)), bands=("g",)).padded(4)


def test_padded_spectra_become_tokens_like_short_ones():
    from omnisky.codec.patch import SpectralSections

    codec = SpectralSections(size=4)
    short, padded = spectrum(6), concatenate([spectrum(6), spectrum(11)]).take([0])
    ours, theirs = codec.encode(padded)["spectra"], codec.encode(short)["spectra"]
    assert ours.there().tolist() == [[True, True, False]]
    np.testing.assert_array_equal(ours.span(0, 2).values, theirs.values)
    np.testing.assert_array_equal(ours.span(0, 2).positions, theirs.positions)


def test_labels_are_kept_exactly():
    bits = np.array([2**64 - 1, 2**63 + 1, 0], dtype=np.uint64)
    labels = Labels(columns={"bits": bits, "kind": np.array(["QSO", "é", ""]), "ok": np.array([True, False, True])})
    seen = Observation.of("abc", labels=labels).take([2, 0])
    assert seen["labels"]["bits"].tolist() == [0, 2**64 - 1] and seen["labels"]["kind"].tolist() == ["", "QSO"]
    both = concatenate([seen, seen])["labels"]
    assert both["bits"].dtype == np.uint64 and both["ok"].tolist() == [True, True] * 2 and len(both) == 4
    with pytest.raises(MissingModality, match="saw z; want bits kind ok"):
        labels["z"]
    with pytest.raises(BadValue, match="float64"):
        Labels(columns={"z": np.zeros(2)})
    with pytest.raises(ShapeMismatch, match="rows do not agree"):
        Labels(columns={"a": np.zeros(2, dtype=int), "b": np.zeros(3, dtype=int)})
    with pytest.raises(ShapeMismatch, match="columns differ"):
        concatenate([Observation.of("a", labels=Labels(columns={k: np.array([1])})) for k in "xy"])


def test_neighbours_are_found_by_name_and_padded():
    one = Neighbours(values=np.ones((1, 2, 2), np.float32), names=("X", "Y"), units=("pix", "pix"))
    two = Neighbours(values=np.ones((1, 3, 2), np.float32), names=("X", "Y"), units=("pix", "pix"))
    seen = concatenate([Observation.of("a", near=one), Observation.of("b", near=two)])["near"]
    assert seen.good.tolist() == [[True, True, False], [True] * 3] and np.isnan(seen["Y"][0, 2])
    with pytest.raises(MissingModality, match="want X Y"):
        seen["Z"]


def test_pixel_scales_that_differ_are_said_for_each():
    flux = np.zeros((1, 2, 4, 4))
    alike = Image(flux=flux, bands=("g", "r"), pixel_scale_arcsec=0.04)
    mixed = Image(flux=flux, bands=("g", "r"), pixel_scales_arcsec=np.array([[0.02, 0.04]], dtype=np.float32))
    seen = concatenate([Observation.of("a", image=alike), Observation.of("b", image=mixed)])["image"]
    np.testing.assert_allclose(seen.pixel_scales_arcsec, [[0.04, 0.04], [0.02, 0.04]], rtol=1e-6)
    assert np.isnan(seen.pixel_scale_arcsec)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "make",
    [
        lambda: Cube(flux=np.zeros((1, 3, 2)), wavelength_aa=np.zeros((1, 3))),
        lambda: Cube(flux=np.zeros((1, 3, 2, 2)), wavelength_aa=np.zeros((1, 2))),
        lambda: Cube(flux=np.zeros((1, 3, 2, 2)), wavelength_aa=np.zeros((1, 3)), ivar=np.zeros((1, 3, 2, 1))),
        lambda: Neighbours(values=np.zeros((1, 3)), names=("X",)),
        lambda: Neighbours(values=np.zeros((1, 3, 2)), names=("X",)),
        lambda: Neighbours(values=np.zeros((1, 3, 1)), names=("X",), good=np.ones((1, 2), dtype=bool)),
        lambda: Image(flux=np.zeros((1, 1, 4, 4)), bands=("g",), psf_fwhm_arcsec=np.ones((1, 2))),
        lambda: Spectrum(flux=np.zeros((1, 5)), wavelength_aa=np.zeros((1, 5)), lsf_sigma_pix=np.zeros((1, 1))),
    ],
)
def test_new_shapes_that_do_not_fit_are_refused(make):
    with pytest.raises(ShapeMismatch) as refused:
        make()
    assert refused.value.saw is not None and refused.value.want is not None


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["present", "good"])
def test_numbers_are_no_yes_or_no(name):
    """An index where a boolean is meant would choose rows instead of marking them."""
    ones = np.ones((2, 3)) if name == "good" else np.ones(2, dtype=int)
    with pytest.raises(BadValue, match=rf"Spectrum\.{name}.*flags == 0"):
        Spectrum(flux=np.zeros((2, 3)), wavelength_aa=np.zeros((2, 3)), **{name: ones})
