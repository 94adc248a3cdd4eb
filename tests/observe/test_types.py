"""The nouns of observe: rows stay together, shapes that do not fit are refused, absent is not zero."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnisky.errors import MissingModality, ObservationError, ShapeMismatch
from omnisky.observe.types import Image, LightCurve, Observation, Scalars, SegmentationMap, Spectrum

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
