"""An Observation comes back from Arrow bit for bit: any part, any dtype, NaN payloads, nobody there, one object."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jaxtyping import Float, Integer

from omnisky.errors import BadValue, CorruptFile, MissingModality, ObservationError, ShapeMismatch
from omnisky.observe.arrow import from_arrow, to_arrow
from omnisky.observe.layout import common, layout_of
from omnisky.observe.schema import layout_in, schema_of
from omnisky.observe.types import Image, LightCurve, Observation, Part, Scalars, SegmentationMap, Spectrum


@dataclass(frozen=True, kw_only=True, eq=False)
class Swarm(Part):
    """A kind of part that arrow.py has never heard of."""

    place: Float[np.ndarray, "object member 2"]
    charge: Integer[np.ndarray, " object"]
    name: np.ndarray
    titles: tuple[str, ...] = ()
    limit: float | None = None
    deep: tuple[tuple[int, ...], ...] = ()


def same(a: Observation, b: Observation) -> None:
    """Bit for bit, but for what stands in the rows of absent objects."""
    assert a.object_id.tolist() == b.object_id.tolist()
    assert a.ra.tobytes() == b.ra.tobytes() and a.dec.tobytes() == b.dec.tobytes()
    assert list(a.parts) == list(b.parts)
    for name, part in a.parts.items():
        other = b[name]
        assert type(part) is type(other)
        assert part.there().tolist() == other.there().tolist()
        for key in (f.name for f in fields(part) if f.name != "present"):
            one, two = getattr(part, key), getattr(other, key)
            if isinstance(one, np.ndarray):
                here = part.there()
                assert one.shape == two.shape, (name, key)
                assert one.dtype.newbyteorder("=") == two.dtype or one.dtype.kind == "U"
                native = one.astype(one.dtype.newbyteorder("="))
                assert native.dtype.kind == "U" or native[here].tobytes() == two[here].tobytes(), (name, key)
                assert native.dtype.kind != "U" or native[here].tolist() == two[here].tolist()
            else:
                assert repr(one) == repr(two), (name, key)


# --- any sky -----------------------------------------------------------------------------------------------------

FLOATS = st.sampled_from([np.float16, np.float32, np.float64])


def raw(draw, dtype, shape) -> np.ndarray:
    """Any bits at all: NaNs of every payload, infinities, −0, denormals."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return draw(hnp.arrays(bool, shape))
    return draw(hnp.arrays(f"u{dtype.itemsize}", shape)).view(dtype)


Recipe = tuple[Any, ...]


@st.composite
def skies(draw, least: int = 0) -> Recipe:
    """What `build` makes a sky of; not built here, because the shape checks roll dice of their own."""
    n = draw(st.integers(least, 5))
    bands, h, w, length = (draw(st.integers(0, 3)) for _ in range(4))
    kind, text = draw(FLOATS), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)
    names = tuple(draw(st.lists(text, max_size=3)))
    good = raw(draw, bool, (n, length))
    grid = np.tile(np.arange(float(length)), (n, 1))

    def maybe(value: np.ndarray) -> np.ndarray | None:
        return value if draw(st.booleans()) else None

    parts: dict[str, Callable[[], tuple[type[Part], dict[str, Any]]]] = {
        "image": lambda: (
            Image,
            {
                "flux": raw(draw, draw(FLOATS | st.sampled_from([np.uint8, np.int32])), (n, bands, h, w)),
                "bands": tuple(f"b{i}" for i in range(bands)),
                "survey": draw(text),
                "pixel_scale_arcsec": draw(st.floats()),
                "ivar": maybe(raw(draw, kind, (n, bands, h, w))),
                "good": maybe(raw(draw, bool, (n, bands, h, w))),
            },
        ),
        "spectrum": lambda: (
            Spectrum,
            {
                "flux": raw(draw, kind, (n, length)),
                "wavelength_aa": grid if draw(st.booleans()) else raw(draw, float, (n, length)),
                "good": maybe(good),
            },
        ),
        "scalars": lambda: (
            Scalars,
            {
                "values": raw(draw, draw(FLOATS), (n, len(names))),
                "names": names,
                "units": draw(st.sampled_from([(), ("mag",) * len(names)])),
            },
        ),
        "segmentation": lambda: (
            SegmentationMap,
            {"label": raw(draw, draw(st.sampled_from(["i2", "u4", ">i8"])), (n, h, w))},
        ),
        "lightcurve": lambda: (
            LightCurve,
            {
                "flux": np.where(good, raw(draw, kind, (n, length)), 0).astype(kind),
                "time_mjd": np.where(good, raw(draw, float, (n, length)), np.nan),
                "band": np.zeros((n, length), dtype=np.int8),
                "bands": ("g",),
                "good": good,
            },
        ),
        "swarm": lambda: (
            Swarm,
            {
                "place": raw(draw, kind, (n, length, 2)),
                "charge": raw(draw, np.int64, n),
                "name": np.array([draw(text) for _ in range(n)], dtype="<U4"),
                "titles": names,
                "limit": draw(st.none() | st.floats()),
                "deep": ((1, 2), ()),
            },
        ),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(parts)), unique=True))
    made = {name: (*parts[name](), draw(st.none() | hnp.arrays(bool, n))) for name in chosen}
    edges = ((0, 360), (-90, 90))
    ra, dec = (draw(hnp.arrays(float, n, elements=st.floats(*edge) | st.just(np.nan))) for edge in edges)
    return draw(st.lists(text, min_size=n, max_size=n)), ra, dec, made


def build(recipe: Recipe) -> Observation:
    ids, ra, dec, parts = recipe
    made = {name: kind(**given, present=present) for name, (kind, given, present) in parts.items()}
    return Observation(np.array(ids, dtype=np.str_), ra, dec, made)


@settings(max_examples=15)
@given(skies())
def test_what_goes_in_comes_out(recipe):
    seen = build(recipe)
    same(seen, from_arrow(to_arrow(seen)))


@settings(max_examples=15)
@given(skies())
def test_also_through_files(recipe):
    seen = build(recipe)
    batch = to_arrow(seen)
    stream, file = BytesIO(), BytesIO()
    with pa.ipc.new_file(stream, batch.schema) as writer:
        writer.write_batch(batch)
    same(seen, from_arrow(pa.ipc.open_file(stream.getvalue()).read_all()))
    if any(column.type == pa.float16() for column in batch.columns) and not len(seen):
        return
    pq.write_table(pa.Table.from_batches([batch]), file)
    same(seen, from_arrow(pq.read_table(file)))


@settings(max_examples=15)
@given(skies(least=2))
def test_a_piece_of_a_table_is_a_piece_of_the_sky(recipe):
    """Arrow slices keep offsets into the same memory."""
    seen = build(recipe)
    batch = to_arrow(seen)
    same(seen.take(slice(1, None)), from_arrow(batch.slice(1)))
    same(seen, from_arrow(pa.Table.from_batches([batch.slice(0, 1), batch.slice(1)])))


@settings(max_examples=15)
@given(skies())
def test_all_is_valid_arrow(recipe):
    seen = build(recipe)
    to_arrow(seen).validate(full=True)


@settings(max_examples=15)
@given(skies())
def test_the_layout_survives_the_schema(recipe):
    seen = build(recipe)
    layout = layout_of(seen)
    assert repr(layout_in(schema_of(layout))) == repr(layout)


# --- what the columns look like ----------------------------------------------------------------------------------


def curves(used=(9, 3, 4, 2), length=9) -> LightCurve:
    good = np.arange(length) < np.array(used)[:, None]
    grid = np.broadcast_to(np.arange(length), good.shape)
    return LightCurve(
        flux=np.where(good, grid, 0).astype(np.float32),
        time_mjd=np.where(good, 5e4 + grid, np.nan),
        band=np.where(good, grid % 2, 0),
        bands=("g", "r"),
        good=good,
    )


def sky(n: int = 4) -> Observation:
    rng = np.random.default_rng(1)
    return Observation.of(
        range(n),
        ra=np.linspace(0, 300, n),
        dec=np.linspace(-80, 80, n),
        image=Image(
            flux=rng.normal(size=(n, 2, 3, 3)).astype(np.float32),
            bands=("g", "r"),
            survey="sdss",
            pixel_scale_arcsec=0.396,
            present=np.arange(n) % 2 == 0,
        ),
        spectrum=Spectrum(flux=rng.normal(size=(n, 5)), wavelength_aa=np.tile(np.arange(5.0), (n, 1))),
        scalars=Scalars(values=rng.normal(size=(n, 2)), names=("redshift", "ra"), units=("", "deg")),
    )


def test_absent_is_null_and_a_tensor_has_no_permutation():
    batch = to_arrow(sky())
    column = batch.column("image_flux")
    assert column.null_count == 2 and column.is_valid().to_pylist() == [True, False, True, False]
    assert column.type == pa.fixed_shape_tensor(pa.float32(), (2, 3, 3)) and column.type.permutation is None


def test_scalars_are_columns_of_their_own_names():
    batch = to_arrow(sky())
    assert batch.column("redshift").to_pylist() == sky()["scalars"]["redshift"].tolist()
    assert batch.column("scalars_ra").to_pylist() == sky()["scalars"]["ra"].tolist()  # ra is the position


def test_columns_say_their_units_and_bands_to_people():
    told = to_arrow(sky()).schema.field("image_flux").metadata
    assert told[b"bands"] == b"g r" and told[b"unit"] == b"nanomaggy" and told[b"survey"] == b"sdss"
    assert to_arrow(sky()).schema.field("scalars_ra").metadata[b"unit"] == b"deg"


def test_a_shared_grid_of_wavelengths_is_stored_once():
    names = to_arrow(sky()).schema.names
    assert "spectrum_flux" in names and "spectrum_wavelength_aa" not in names


def test_padding_is_not_stored():
    seen = Observation.of(range(4), lightcurve=curves())
    batch = to_arrow(seen)
    assert pa.types.is_struct(batch.schema.field("lightcurve").type)
    assert [len(one["flux"]) for one in batch.column("lightcurve").to_pylist()] == [9, 3, 4, 2]
    same(seen, from_arrow(batch))


def test_a_few_bad_pixels_at_the_end_are_no_padding():
    seen = Observation.of(range(2), lightcurve=curves((20, 19), 20))
    assert "lightcurve_flux" in to_arrow(seen).schema.names


def test_healpix_29_leads_to_the_cell_of_every_order():
    from omnisky.observe.sky import cells

    seen = Observation.of("ab", [10.0, np.nan], [20.0, 0.0])
    (first, unknown) = to_arrow(seen).column("_healpix_29").to_pylist()
    assert unknown is None
    assert first >> 2 * (29 - 6) == cells(seen, 6)[0]


def test_some_columns_are_some_parts():
    batch = to_arrow(sky())
    some = from_arrow(batch.select(["object_id", "ra", "dec", "redshift"]))
    assert list(some.parts) == ["scalars"] and some["scalars"].names == ("redshift",) and some["scalars"].units == ("",)
    with pytest.raises(MissingModality, match="half there"):
        seen = sky() | {"image": replace(sky()["image"], good=np.ones((4, 2, 3, 3), dtype=bool))}
        from_arrow(to_arrow(seen).select(["object_id", "ra", "dec", "image_good"]))


# --- one layout for many pieces ----------------------------------------------------------------------------------


def test_pieces_of_different_padding_and_parts_share_a_layout():
    first = Observation.of("abcd", lightcurve=curves())
    second = sky(3).take(slice(0, 2)) | {"lightcurve": curves((12, 1), 12)}
    layout = common(layout_of(one) for one in (first, second))
    both = from_arrow(pa.Table.from_batches([to_arrow(first, layout), to_arrow(second, layout)]))
    assert both["lightcurve"].flux.shape == (6, 12)
    assert both["image"].there().tolist() == [False] * 4 + [True, False]
    assert np.isnan(both["scalars"].values[:4]).all()
    same(second, replace_part(both.take(slice(4, 6)), second))
    assert both["lightcurve"].good.sum(axis=1).tolist() == [9, 3, 4, 2, 12, 1]


def replace_part(seen: Observation, like: Observation) -> Observation:
    """The parts in the order of `like`."""
    return Observation(seen.object_id, seen.ra, seen.dec, {name: seen[name] for name in like.parts})


def test_another_grid_makes_wavelengths_a_column():
    one = sky().take([0])
    other = one | {"spectrum": replace(one["spectrum"], wavelength_aa=one["spectrum"].wavelength_aa + 1)}
    layout = common([layout_of(one), layout_of(other)])
    both = from_arrow(pa.Table.from_batches([to_arrow(one, layout), to_arrow(other, layout)]))
    assert both["spectrum"].wavelength_aa[:, 0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bands": ("g", "z")}, "different names"),
        ({"flux": np.zeros((4, 2, 3, 4), dtype=np.float32)}, "one shape"),
        ({"flux": np.zeros((4, 2, 3, 3))}, "one dtype"),
        ({"good": np.ones((4, 2, 3, 3), dtype=bool)}, "the same fields"),
    ],
)
def test_pieces_that_do_not_fit_are_refused(change, said):
    other = sky() | {"image": replace(sky()["image"], **change)}
    with pytest.raises(ShapeMismatch, match=said):
        common([layout_of(sky()), layout_of(other)])


def test_pixel_scales_that_differ_are_not_known():
    scale = [layout_of(sky() | {"image": replace(sky()["image"], pixel_scale_arcsec=s)}) for s in (0.4, 0.40001, 0.5)]
    assert common(scale[:2]).parts["image"].constants["pixel_scale_arcsec"] == 0.4
    assert np.isnan(common(scale).parts["image"].constants["pixel_scale_arcsec"])


# --- refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ra", "dec"), [(400.0, 0.0), (10.0, 91.0), (-181.0, 0.0)])
def test_positions_off_the_sky_are_named(ra, dec):
    with pytest.raises(ObservationError, match="object M31 is off the sky"):
        to_arrow(Observation.of(["M31"], [ra], [dec]))


def test_a_table_of_somebody_else_is_not_guessed_at():
    with pytest.raises(ObservationError, match="not made by Omnisky"):
        from_arrow(pa.table({"object_id": ["a"]}))


def test_columns_that_are_not_what_the_layout_says_are_named():
    batch = to_arrow(sky())
    i = batch.schema.get_field_index("spectrum_flux")
    wrong = pa.table([*batch.columns[:i], pa.array([1, 2, 3, 4]), *batch.columns[i + 1 :]], names=batch.schema.names)
    with pytest.raises(CorruptFile, match=r"spectrum\.flux"):
        from_arrow(wrong.replace_schema_metadata(batch.schema.metadata))


@pytest.mark.usefixtures("unchecked")
def test_what_arrow_cannot_hold_is_refused():
    with pytest.raises(BadValue, match=r"scalars\.values"):
        to_arrow(Observation.of("a", scalars=Scalars(values=np.zeros((1, 1), dtype=complex), names=("x",))))
