"""Mock light curves: noise as told, physics as cited, the same object in any company."""

import numpy as np
import pytest

from omnisky.errors import BadValue
from omnisky.observe.mock import curves
from omnisky.observe.mock.curves import (
    DEPTH_MAG,
    KINDS,
    MockCurves,
    arnett_erg_s,
    black_body_nmgy,
    error_nmgy,
    write_curves,
)

SKY = MockCurves(objects=150, seed=1)


@pytest.fixture(scope="module")
def seen():
    return SKY.take(slice(None))


def test_noise_is_as_told(seen):
    """5 % is four times what chance leaves of 18,000 epochs."""
    curve, clean = seen["light_curve"], SKY.noiseless(slice(None))["light_curve"]
    chi2 = ((curve.flux - clean.flux) ** 2 * curve.ivar).mean()
    assert chi2 == pytest.approx(1, abs=0.05)
    least = np.array([10 ** ((22.5 - depth) / 2.5) / 5 for depth in DEPTH_MAG])
    assert np.allclose(error_nmgy(np.zeros(6), np.arange(6)), least, rtol=0.03)


def test_an_object_is_the_same_in_any_company(seen):
    alone = SKY.take([7])
    assert alone.object_id[0] == seen.object_id[7] and alone.ra[0] == seen.ra[7]
    assert np.array_equal(alone["light_curve"].flux[0], seen["light_curve"].flux[7])
    assert not np.array_equal(MockCurves(objects=150, seed=2).take([7])["light_curve"].flux, alone["light_curve"].flux)


def test_truth_is_of_its_kind(seen):
    truth, clean = seen["truth"], SKY.noiseless(slice(None))["light_curve"]
    kind = truth["kind"]
    assert set(kind) == set(range(len(KINDS)))
    assert np.array_equal(np.isfinite(truth["nickel_msun"]), kind == 0)
    assert np.array_equal(np.isfinite(truth["period_d"]), kind == 1)
    assert np.array_equal(np.isfinite(truth["damping_d"]), kind == 2)
    early = clean.time_mjd < truth["explosion_mjd"][:, None]
    assert early.any() and (clean.flux[early] == 0).all(), "nothing is seen before it explodes"
    assert (clean.flux[kind != 0] > 0).all()


def test_a_supernova_peaks_when_and_as_brightly_as_one_of_type_ia():
    """0.6 M☉ of nickel: 10⁴³ erg/s, some 17 days after it exploded (Scalzo et al. 2014, MNRAS 440, 1498)."""
    days = np.linspace(-5, 100, 1051)
    power = arnett_erg_s(days, 0.6, 13.0, 38.0)
    assert (power[days <= 0] == 0).all()
    assert 12 < days[power.argmax()] < 20 and 0.8e43 < power.max() < 1.6e43


def test_the_sun_is_as_bright_as_it_is():
    """M_r = 4.65 AB (Willmer 2018, ApJS 236, 47) at 10 pc; a black body is within 0.15 mag."""
    flux = black_body_nmgy(6.957e10, 5772.0, 1e-5, 0.0, 6223.0)
    assert 22.5 - 2.5 * np.log10(flux) == pytest.approx(4.65, abs=0.15)


def test_on_disk_they_are_what_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "_AT_ONCE", 10)
    counted = []
    written = write_curves(tmp_path / "c", 24, seed=1, watch=lambda done, all_: counted.append(done))
    assert set(counted) == {10, 20, 24} and len(written) == 24
    whole = written.take(np.arange(24))
    row = whole.object_id.tolist().index("mock-curve-1-00000007")
    again, want = whole.take([row])["light_curve"], SKY.take([7])["light_curve"]
    assert np.array_equal(again.flux, want.flux) and np.array_equal(again.time_mjd, want.time_mjd)


def test_what_cannot_be_made():
    with pytest.raises(BadValue):
        MockCurves(objects=0)
    with pytest.raises(BadValue):
        MockCurves(objects=1, days=10, epochs=30)
