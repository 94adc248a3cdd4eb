"""The explorer beside a live server, in a real browser: two skies, uploads that land, views that models make."""

import threading
import time

import numpy as np
import pytest
from browser import CHROMIUM, browser

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("uvicorn")
pytest.importorskip("PIL")

import houses
import pairs
import skies
import uvicorn
from astropy.io import fits

from omnisky.codec.image import ImageCodec
from omnisky.codec.modalities import DOMAINS
from omnisky.codec.scalar import ScalarCodec, plan, redshift_grid
from omnisky.codec.spectrum import SpectrumCodec
from omnisky.embed import Embedding
from omnisky.model.any_to_any import AION
from omnisky.model.masked import AnyToAny, AnyToAnyConfig, gated
from omnisky.observe.types import Observation
from omnisky.search import Index
from omnisky.serve.app import build
from omnisky.serve.explore import Sky
from omnisky.serve.house import House
from omnisky.serve.site import mount, write_site

pytestmark = [
    pytest.mark.slow,  # a browser and a server
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
    pytest.mark.timeout(600),
]

DRAWN = """(() => {
  const made = [...document.querySelectorAll('#made .views .made canvas')].at(-1);
  if (!made || !made.width) return null;
  const copy = new OffscreenCanvas(made.width, made.height).getContext('2d');
  copy.drawImage(made, 0, 0);
  return new Set(new Uint32Array(copy.getImageData(0, 0, made.width, made.height).data.buffer)).size;
})()"""
TILES = """[...document.querySelectorAll('.tile .pick')].map((one) =>
  [one.title, parseFloat(one.querySelector('.caption').textContent)])"""
TOLD = "document.querySelector('#made .views .made, #made .views .error')?.textContent"


def any_to_any() -> AnyToAny:
    """Images, spectra and redshifts; a width of 16, at random."""
    keys = ("tok_image", "tok_spectrum_desi", "tok_z")
    config = AnyToAnyConfig(core=gated(1, 16, 2), decoder_depth=1, vocabularies=tuple(AION[key] for key in keys))
    built = config.build(0).eval()
    built.codecs = (
        ImageCodec(network=skies.alive(skies.IMAGE.build())),
        SpectrumCodec(network=skies.alive(skies.SPECTRUM.build())),
        ScalarCodec(plan=plan(DOMAINS["tok_z"]), levels=redshift_grid()),
    )
    return built


def measured(n: int = 5) -> Observation:
    draw = np.random.default_rng(1)
    parts = {"image": skies.images(n), "spectrum": skies.spectra(n)}
    return Observation.of([f"aion-{i}" for i in range(n)], draw.uniform(10, 11, n), draw.uniform(2, 3, n), **parts)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    clip, seen = pairs.clip(), measured()
    vectors = np.random.default_rng(2).normal(size=(len(seen), 8)).astype(np.float32)
    known = Index({"image": Embedding(vectors, seen.object_id, seen.ra, seen.dec, "of no model here")})
    pair_sky = Sky(name="pairs", title="Pairs", index=houses.index(clip), seen=houses.SKY)
    aion_sky = Sky(name="aion", title="Any to any", index=known, seen=seen)
    site = write_site(tmp_path_factory.mktemp("site"), [pair_sky, aion_sky])
    house = House(models={"clip": clip, "aion": any_to_any()}, indices={"pairs": pair_sky.index})
    app = build(house)
    mount(app, site, {"pairs": houses.SKY, "aion": seen})
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def tab():
    with browser() as page:
        page.size(1400, 900)
        yield page


def opened(page, address):
    page.go("about:blank")
    page.asked.clear(), page.complaints.clear()
    page.go(address)
    page.until("document.documentElement.dataset.ready && !document.querySelector('#upload').hidden", 120)
    return page


def test_two_skies_are_chosen_from_and_links_know_which(tab, address):
    page = opened(tab, address)
    assert page.run("[...document.querySelector('#skies').options].map((one) => one.value)") == ["pairs", "aion"]
    assert page.run("document.title").startswith("Pairs")
    page.run("(() => { const menu = document.querySelector('#skies'); menu.value = 'aion'; menu.onchange(); })()")
    page.until("document.title.startsWith('Any to any') && document.querySelector('#state').hidden")
    page.press("/")
    page.type("aion-3")
    page.until("!!document.querySelector('#found [aria-selected=true]')")
    page.press("Enter")
    link = page.until("location.hash.includes('o=aion-3') && location.hash")
    assert "sky=aion" in link
    page.until("document.querySelectorAll('.tile').length === 4")  # all of this sky but itself, none of the other
    titles = page.run("[...document.querySelectorAll('.tile .pick')].map((one) => one.title)")
    assert sorted(titles) == ["aion-0", "aion-1", "aion-2", "aion-4"]
    opened(page, address + link)
    assert page.until("document.querySelector('#name').textContent") == "aion-3"
    assert [one for one in page.asked if not one.startswith((address, "blob:", "data:", "about:"))] == []
    assert page.complaints == []


def test_a_fits_cut_out_lands_beside_what_it_is(tab, address, tmp_path):
    page = opened(tab, address)
    cut = fits.PrimaryHDU(houses.SKY["image"].flux[11])
    cut.header["BANDS"] = ",".join(pairs.BANDS)
    cut.header["BUNIT"] = "nanomaggy"
    cut.writeto(tmp_path / "mine.fits")
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    field = page.call("DOM.querySelector", nodeId=root, selector="#upload input")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=field, files=[str(tmp_path / "mine.fits")])
    page.until("document.querySelectorAll('.tile').length === 12 && document.querySelector('#toast').hidden", 120)
    assert page.run("document.querySelector('#name').textContent") == "mine.fits"
    found = dict(page.run(TILES))
    assert found[houses.SKY.object_id[11]] > 0.98  # itself; a cosine of bytes is within 0.01, so others may come first
    assert max(found.values()) - found[houses.SKY.object_id[11]] < 0.02
    seen = page.until("document.querySelector('#picture canvas')?.width")
    assert seen == houses.SKY["image"].flux.shape[-1]  # what was read of it is drawn
    assert page.run("document.querySelector('#spectrum').hidden")
    (tmp_path / "not.fits").write_bytes(b"SIMPLE  = maybe")
    page.call("DOM.setFileInputFiles", nodeId=field, files=[str(tmp_path / "not.fits")])
    said = page.until(
        "!document.querySelector('#toast').hidden && !/Reading/.test(toast.textContent) && toast.textContent"
    )
    assert len(said) > 10


def test_models_tell_an_image_a_spectrum_and_a_redshift(tab, address):
    page = opened(tab, address + "#sky=aion&o=aion-1")
    chips = page.until("(() => { const all = [...document.querySelectorAll('#made .chips button')]; "
                       "return all.length && all.map((one) => one.textContent); })()", 60)  # fmt: skip
    wanted = {"Legacy Survey image": 50, "DESI spectrum": 9, "redshift": 9}
    assert set(wanted) <= set(chips)
    for label, colours in wanted.items():
        chip = f"[...document.querySelectorAll('#made .chips button')].find((one) => one.textContent === {label!r})"
        page.run(f"{chip}.click()")
        said = page.until(f"!/asking/.test(document.querySelector('#made .views').textContent) && {TOLD}", 120)
        assert "generated by aion, not measured" in said, (label, said)
        assert page.until(DRAWN) >= colours, label  # not an empty canvas
    assert "68 % within" in said and "from all that was measured" in said and "from the image alone" in said
    before = len(page.asked)
    page.press("t")  # other colours: the answer is drawn again, nobody is asked again
    page.until(f"document.querySelector('#made .chips [aria-pressed=true]') && {TOLD} === {said!r}")
    assert not [one for one in page.asked[before:] if "/v1/posterior" in one]
    assert page.complaints == []
