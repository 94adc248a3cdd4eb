"""Augmentations do what physics says, for each plane of a batch by itself; chances are those that were asked for."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from omnisky.codec.stretch import LegacyColours, Linear
from omnisky.errors import BadValue, ShapeMismatch, TooSmall
from omnisky.model import augment
from omnisky.model.augment import MultiCrop, View, Weather, blurred, cut_out, noisy, reddened, turned_out

SIZE = 41


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 4, bands: int = 3, size: int = SIZE, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, bands, size, size, generator=draw(seed))


def stars(sigma_px: torch.Tensor, size: int = SIZE) -> torch.Tensor:
    """A Gaussian star of flux 1 in the middle of each plane, sampled (σ ≥ 1 px, so a sum is an integral)."""
    far = torch.arange(size) - size // 2
    line = torch.exp(-0.5 * (far / sigma_px[..., None]) ** 2)
    plane = line[..., :, None] * line[..., None, :]
    return plane / plane.sum((-1, -2), keepdim=True)


def width(planes: torch.Tensor) -> torch.Tensor:
    """σ along the rows, by second moments."""
    far = torch.arange(planes.shape[-1], dtype=planes.dtype) - planes.shape[-1] // 2
    return ((planes.sum(-1) * far**2).sum(-1) / planes.sum((-1, -2))).sqrt()


def spots(images: torch.Tensor, size: int, shift: int = 0, **chances) -> torch.Tensor:
    return View(size=size, shift=shift, mirror=0.0, **chances).take(images, Weather(), draw())


# --- blur --------------------------------------------------------------------------------------------------------


def test_a_blur_is_scipys_with_its_own_width_for_each_plane():
    images, sigma = pictures(), torch.linspace(0.3, 4.5, 12).view(4, 3)
    ours = blurred(images, sigma)
    for i in np.ndindex(4, 3):
        theirs = ndimage.gaussian_filter(images[i].numpy(), float(sigma[i]), mode="reflect", truncate=4)
        np.testing.assert_allclose(ours[i], theirs, atol=2e-6)  # float32 sums of numbers below 1


def test_a_blur_of_oblong_images_and_of_one():
    image = torch.rand(1, 1, 20, 33, generator=draw())
    theirs = ndimage.gaussian_filter(image[0, 0].numpy(), 1.7, mode="reflect", truncate=4)
    np.testing.assert_allclose(blurred(image, torch.tensor([[1.7]]))[0, 0], theirs, atol=2e-6)


def test_widths_of_point_spread_functions_add_in_quadrature():
    """A star of σ₁ through seeing of σ₂ has √(σ₁² + σ₂²); the kernel's cut at 4 σ takes 0.1 % of its variance."""
    have, more = torch.tensor([[1.3, 2.0, 1.5]]), torch.tensor([[1.2, 1.0, 2.5]])
    found = width(blurred(stars(have), more))
    torch.testing.assert_close(found, (have**2 + more**2).sqrt(), rtol=2e-3, atol=0)


def test_a_blur_keeps_all_flux_also_at_the_border():
    images = pictures()
    images[:, :, 0, 0] = 1000
    ours = blurred(images, torch.full((4, 3), 3.0))
    torch.testing.assert_close(ours.sum((-1, -2)), images.sum((-1, -2)), rtol=1e-5, atol=0)


def test_no_blur_changes_nothing():
    assert torch.equal(blurred(pictures(), torch.zeros(4, 3)), pictures())


def test_a_blur_wider_than_the_image_is_refused():
    with pytest.raises(BadValue, match="wider than the image"):
        blurred(pictures(size=12), torch.full((4, 3), 4.0))


# --- noise, dust -------------------------------------------------------------------------------------------------


def test_noise_has_the_width_asked_for_and_no_memory():
    """10,000 pixels a plane: their standard deviation is known to 0.7 %, a correlation to 0.01; four of these."""
    sigma = torch.tensor([[0.5, 2.0, 0.0]])
    added = noisy(torch.full((1, 3, 100, 100), 7.0), sigma, draw()) - 7
    torch.testing.assert_close(added.std((-1, -2)), sigma, rtol=0.028, atol=0)
    assert abs(float(torch.corrcoef(added[0, :2].flatten(1))[0, 1])) < 0.04
    assert abs(float((added[0, 0, :, 1:] * added[0, 0, :, :-1]).mean()) / 0.25) < 0.04


def test_reddening_takes_magnitudes_as_the_law_says_and_can_be_undone():
    images = pictures(2) + 0.1
    ebv = torch.tensor([0.1, 0.5])
    behind = reddened(images, ebv, (1.211, 2.165, 3.214))
    lost = -2.5 * torch.log10(behind / images)
    for i in range(2):
        for band, law in enumerate((1.211, 2.165, 3.214)):
            assert lost[i, band].flatten().tolist() == pytest.approx([law * float(ebv[i])] * SIZE**2, abs=2e-5)
    torch.testing.assert_close(reddened(behind, -ebv, (1.211, 2.165, 3.214)), images)


def test_a_law_of_other_bands_is_refused():
    with pytest.raises(ShapeMismatch, match="2 bands"):
        reddened(pictures(), torch.zeros(4), (1.0, 2.0))


# --- turns -------------------------------------------------------------------------------------------------------


def turn_whole(images: torch.Tensor, angle: list[float], zoom: list[float] | None = None) -> torch.Tensor:
    n, start = len(images), torch.zeros(len(images), dtype=torch.int64)
    zooms = torch.ones(n) if zoom is None else torch.tensor(zoom)
    return turned_out(images, torch.arange(n), start, start, images.shape[-1], torch.tensor(angle), zooms)


def test_quarter_turns_are_exact():
    images = pictures(6)
    ours = turn_whole(images, [0.0, 90.0, 180.0, 270.0, 360.0, -90.0])
    for k, ours_k, image in zip((0, 1, 2, 3, 0, 3), ours, images, strict=True):
        assert torch.equal(ours_k, image.rot90(k, (-2, -1)))


def test_any_angle_turns_about_the_middle_the_same_way():
    """A spot right of the middle, turned by 30° anticlockwise, is up and to the right; rows count downwards."""
    image = torch.zeros(1, 1, SIZE, SIZE)
    middle, arm = SIZE // 2, 12
    image[0, 0, middle - 1 : middle + 2, middle + arm - 1 : middle + arm + 2] = 1
    turned = turn_whole(image, [30.0])[0, 0]
    y, x = (
        float((turned * axis).sum() / turned.sum()) for axis in torch.meshgrid(*[torch.arange(SIZE)] * 2, indexing="ij")
    )
    assert (x - middle, middle - y) == pytest.approx(
        (arm * math.cos(math.pi / 6), arm * math.sin(math.pi / 6)), abs=0.05
    )
    # 30° is a turn by 30 and none; 120° is one by a quarter and the same 30: both ways meet.
    assert torch.allclose(turn_whole(image, [120.0])[0, 0], turned.rot90(1, (-2, -1)), atol=1e-4)


def test_a_turn_keeps_the_flux_of_what_stays_inside():
    """Bilinear sampling leaves replicas of the spectrum; of a star of σ 3 px, at 45°, the worst angle, some 1e-4."""
    image = stars(torch.full((5, 1), 3.0))
    turned = turn_whole(image, [10.0, 45.0, 77.0, 200.0, 359.0])
    torch.testing.assert_close(turned.sum((-1, -2)), torch.ones(5, 1), rtol=1e-3, atol=0)


def test_a_zoom_keeps_surface_brightness_and_makes_widths_larger():
    """Flux therefore grows as zoom². Bilinear sampling widens by less than 2 %."""
    image = stars(torch.full((2, 1), 3.0))
    large = turn_whole(image, [0.0, 0.0], [1.5, 0.8])
    torch.testing.assert_close(large.amax((-1, -2)), image.amax((-1, -2)), rtol=0.03, atol=0)
    torch.testing.assert_close(width(large)[:, 0] / 3, torch.tensor([1.5, 0.8]), rtol=0.02, atol=0)
    torch.testing.assert_close(large.sum((-1, -2))[:, 0], torch.tensor([1.5**2, 0.8**2]), rtol=0.02, atol=0)


def test_a_turned_cut_out_is_cut_where_asked():
    images = pictures(2)
    rows, top, left = torch.tensor([1, 0, 1]), torch.tensor([3, 0, 20]), torch.tensor([7, 22, 1])
    plain = cut_out(images, rows, top, left, 19)
    assert torch.equal(plain[0], images[1, :, 3:22, 7:26])
    assert torch.equal(turned_out(images, rows, top, left, 19, torch.zeros(3), torch.ones(3)), plain)
    nearly = turned_out(images, rows, top, left, 19, torch.full((3,), 1e-4), torch.ones(3))
    assert torch.allclose(nearly, plain, atol=1e-3)


# --- views -------------------------------------------------------------------------------------------------------


def test_a_view_is_a_piece_of_its_image_within_the_shift():
    """Each pixel knows where it lies, so a cut-out tells where it was taken."""
    image = torch.arange(152.0 * 152).view(1, 1, 152, 152).expand(500, 1, -1, -1)
    first = spots(image, 144, shift=4)[:, 0, 0, 0]
    rows, columns = first // 152, first % 152
    assert sorted(set(rows.tolist())) == sorted(set(columns.tolist())) == list(range(9))
    near = spots(image, 60, shift=2)[:, 0, 0, 0]
    assert sorted(set((near // 152).tolist())) == [44, 45, 46, 47, 48]
    everywhere = spots(image, 60, shift=46)[:, 0, 0, 0]
    assert float((everywhere // 152).min()) == 0 and float((everywhere // 152).max()) == 92


def test_times_repeats_all_objects_in_their_order():
    image = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 9, 9)
    views = View(size=5, shift=2).take(image, Weather(), draw(), times=4)
    assert views[:, 0, 0, 0].tolist() == [0, 1, 2] * 4


def test_half_are_mirrored_along_each_axis():
    image = torch.arange(25.0).view(1, 1, 5, 5).expand(4000, 1, 5, 5)
    corner = View(size=5, shift=0).take(image, Weather(), draw())[:, 0, 0, 0]
    shares = [float((corner == value).double().mean()) for value in (0, 4, 20, 24)]
    assert shares == pytest.approx([0.25] * 4, abs=0.03)  # four standard errors


@pytest.mark.parametrize(
    ("name", "views", "want"),
    [("the paper's", augment.PAPER, (1.0, 0.1, 0.5)), ("the code's", augment.AS_RUN, (0.0, 0.9, 0.5))],
)
def test_views_are_blurred_and_noisy_as_often_as_said(name, views, want):
    """Each band is worse in half of the chosen cases; one of three is in 1 − 2⁻³ of them."""
    clean = replace(Weather(), depth=replace(Weather().depth, loc=(0.0,) * 3, scale=(0.0,) * 3))
    flat = torch.ones(600, 3, 24, 24)
    rough = torch.zeros(600, 3, 24, 24)
    rough[..., ::2] = 1
    for view, chance in zip((views.first, views.second, views.small), want, strict=True):
        view = replace(view, size=20, shift=2)
        noised = (view.take(flat, Weather(), draw(1)) - 1).abs() > 1e-4  # a blur leaves flat images to 1e-6
        assert float(noised.flatten(1).any(1).double().mean()) == pytest.approx(chance * 7 / 8, abs=0.06)
        worse = view.take(rough, clean, draw(2))
        worse = (worse != 0) & (worse != 1)
        assert float(worse.flatten(1).any(1).double().mean()) == pytest.approx(chance * 7 / 8, abs=0.06)


def test_seeing_and_depth_are_the_surveys():
    """Quantiles of shifted lognormals are known; 40,000 draws place a median to half a per cent."""
    weather = Weather()
    for told in (weather.seeing, weather.depth):
        drawn = told.draw(40_000, draw())
        for band in range(3):
            truth = stats.lognorm(told.shape[band], told.loc[band], told.scale[band])
            assert np.quantile(drawn[:, band], [0.1, 0.5, 0.9]) == pytest.approx(truth.ppf([0.1, 0.5, 0.9]), rel=0.02)
    extra = weather.blur_px(40_000, draw())
    assert float((extra == 0).double().mean()) == pytest.approx(0.5, abs=0.01)


def test_a_view_is_a_function_of_images_and_seed():
    images = pictures(3, size=152)
    one, two = (augment.PAPER.crops(images, draw(5)) for _ in range(2))
    assert torch.equal(one.large, two.large) and torch.equal(one.small, two.small)
    assert not torch.equal(one.large, augment.PAPER.crops(images, draw(6)).large)


def test_multi_crops_are_stretched_views_of_one_object_too():
    images = pictures(1, size=152) * 0.1
    before = images.clone()
    crops = augment.PAPER.crops(images, draw())
    assert crops.large.shape == (2, 3, 144, 144) and crops.small.shape == (8, 3, 60, 60)
    assert 0 <= float(crops.large.min()) < float(crops.large.max()) <= 1
    assert torch.equal(images, before)


def test_the_stretch_comes_last():
    """Without chances a view is the stretched cut-out: blur and noise belong to the flux."""
    images = pictures(2, size=24)
    view = View(size=24, shift=0, mirror=0.0)
    plain = MultiCrop(first=view, second=view, small=view, small_views=1, stretch=LegacyColours())
    assert torch.equal(plain.crops(images).large, LegacyColours().forward(images).repeat(2, 1, 1, 1))
    assert torch.equal(replace(plain, stretch=Linear()).crops(images).small, images)


def test_steins_view_turns_zooms_and_reddens():
    images = pictures(4, size=152)
    seen = augment.STEIN.take(images, Weather(), draw())
    assert seen.shape == (4, 3, 96, 96) and bool(torch.isfinite(seen).all())


def test_what_cannot_be_cut_or_drawn_is_refused():
    with pytest.raises(TooSmall, match="144 px or more"):
        augment.PAPER.crops(pictures(1, size=64))
    with pytest.raises(BadValue, match="chances"):
        View(size=8, shift=0, blur=1.5)
