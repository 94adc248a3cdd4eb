"""Over HTTP comes what the same call gives here, for every way to ask; what cannot be answered says why."""

import asyncio
import io
from base64 import b64decode, b64encode
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image as Picture

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

import houses
import small
from astropy.io import fits, votable
from starlette.testclient import TestClient

from omnisky.adapt.adaptations import Linear
from omnisky.adapt.finetuned import FineTunedModel
from omnisky.embed import Embedding, embed, token_states
from omnisky.generate import Roar, answers, posterior
from omnisky.generate.answers import shown
from omnisky.model import store
from omnisky.observe.arrow import from_arrow
from omnisky.observe.place import Cone
from omnisky.observe.read import read
from omnisky.observe.types import Observation
from omnisky.search import Where
from omnisky.serve import wire
from omnisky.serve.app import build
from omnisky.serve.client import ARROW
from omnisky.serve.heads import TunedHead

BODY = {"Content-Type": ARROW}
TOL = {"rtol": 1e-4, "atol": 1e-5}  # sums are in another order in a batch of another size


@pytest.fixture(scope="module")
def house():
    return houses.house(rows=30, body_bytes=1 << 20)


@pytest.fixture(scope="module")
def http(house):
    with TestClient(build(house)) as client:
        yield client


def as_json(seen: Observation) -> list[dict]:
    return wire.json_of(seen)


def data_uri(body: bytes) -> str:
    return "data:application/octet-stream;base64," + b64encode(body).decode()


def fits_of(seen: Observation, i: int) -> bytes:
    image = seen["image"]
    header = fits.Header({"BANDS": "grz", "BUNIT": "nanomaggy", "RA": seen.ra[i], "DEC": seen.dec[i]})
    file = io.BytesIO()
    fits.PrimaryHDU(image.flux[i], header).writeto(file)
    return file.getvalue()


def table(answer) -> Embedding:
    assert answer.status_code == 200, answer.text
    return Embedding.of(pa.ipc.open_stream(answer.content).read_all())


# --- embeddings --------------------------------------------------------------------------------------------------


def test_the_stock_openai_client_works(house):
    openai, web = pytest.importorskip("openai"), pytest.importorskip("httpx2")
    seen = small.galaxies(3)
    want = embed(house.models["toy"], seen).vectors

    async def ask(**more):
        async with web.AsyncClient(transport=web.ASGITransport(app=build(house))) as http:
            client = openai.AsyncOpenAI(base_url="http://here/v1", api_key="none", http_client=http, max_retries=0)
            inputs = [data_uri(wire.arrow_of(seen.take([i]))) for i in range(3)]
            models = [one.id async for one in client.models.list()]
            return models, await client.embeddings.create(model="toy", input=inputs, **more)

    for more in ({}, {"encoding_format": "float"}):  # it asks for base64 by itself
        models, found = asyncio.run(ask(**more))
        assert models == ["toy", "clip", "numbers"]
        assert [row.index for row in found.data] == [0, 1, 2]
        np.testing.assert_allclose(np.array([row.embedding for row in found.data]), want, **TOL)


def test_arrow_in_arrow_out_is_the_local_call(house, http):
    seen = houses.SKY.take(slice(0, 20))
    found = table(http.post("/v1/embed?model=clip&part=spectrum", content=wire.arrow_of(seen), headers=BODY))
    want = embed(house.models["clip"], seen, part="spectrum")
    np.testing.assert_allclose(found.vectors, want.vectors, **TOL)
    assert found.object_id.tolist() == want.object_id.tolist() and found.signature == want.signature
    np.testing.assert_array_equal(found.ra, want.ra)


def test_json_may_be_asked_for(house, http):
    seen = small.galaxies(2)
    headers = BODY | {"Accept": "application/json"}
    answer = http.post("/v1/embed", params={"model": "toy"}, content=wire.arrow_of(seen), headers=headers).json()
    want = embed(house.models["toy"], seen)
    assert answer["signature"] == want.signature and answer["data"][1]["object_id"] == "toy-1"
    assert answer["data"][0]["ra"] is None
    np.testing.assert_allclose([row["embedding"] for row in answer["data"]], want.vectors, **TOL)


def test_objects_of_several_shapes_come_back_in_their_order(house, http):
    one, two = small.galaxies(3), small.galaxies(2, size=24, seed=1)
    rows = as_json(one.take(slice(0, 1))) + as_json(two) + as_json(one.take(slice(1, 3)))
    answer = http.post("/v1/embed", json={"model": "toy", "input": rows}).json()
    ones, twos = embed(house.models["toy"], one).vectors, embed(house.models["toy"], two).vectors
    want = np.concatenate([ones[:1], twos, ones[1:]])
    np.testing.assert_allclose([row["embedding"] for row in answer["data"]], want, **TOL)


@pytest.mark.parametrize("kind", ["png", "npz", "json", "data uri"])
def test_an_image_is_read_however_it_comes(house, http, kind):
    model, seen = ("clip", houses.SKY.take([4])) if kind == "npz" else ("toy", small.galaxies(1))
    want = embed(house.models[model], seen, part="image").vectors
    file, more = io.BytesIO(), {"params": {"model": model, "part": "image"}}
    if kind == "json":
        answer = http.post("/v1/embed", json={"model": model, "part": "image", "input": as_json(seen)[0]})
    elif kind == "data uri":
        answer = http.post("/v1/embed", json={"model": model, "input": data_uri(wire.arrow_of(seen))})
    else:
        if kind == "png":
            Picture.fromarray(seen["image"].flux[0].transpose(1, 2, 0)).save(file, "PNG")
        else:
            np.savez_compressed(file, flux_nanomaggies=seen["image"].flux, bands=small.BANDS)
        answer = http.post("/v1/embed", content=file.getvalue(), **more)
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose([row["embedding"] for row in answer.json()["data"]], want, **TOL)


def test_a_fits_cut_out_is_read_as_read_does(house, http, tmp_path):
    """The toy AstroCLIP wants other bands: that it says so shows that the header was read."""
    body = fits_of(houses.SKY, 4)
    (tmp_path / "upload.fits").write_bytes(body)
    assert read(tmp_path / "upload.fits")["image"].bands == ("g", "r", "z")
    answer = http.post("/v1/embed?model=clip&part=image", content=body)
    assert answer.status_code == 422 and answer.json()["title"] == "BandMismatch"
    assert "/tmp" not in answer.text


def test_a_spectrum_as_json(house, http):
    seen = houses.SKY.take([5])
    spectrum = as_json(seen)[0]["spectrum"]
    answer = http.post("/v1/embed", json={"model": "clip", "part": "spectrum", "input": {"spectrum": spectrum}})
    want = embed(house.models["clip"], seen, part="spectrum").vectors
    np.testing.assert_allclose(answer.json()["data"][0]["embedding"], want[0], rtol=1e-3, atol=1e-4)  # float32 Å


# --- search ------------------------------------------------------------------------------------------------------


def ids(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [row["object_id"] for row in answer.json()["matches"]]


def test_look_alikes_by_id_place_and_examples(house, http):
    index, one = house.indices["pairs"], houses.SKY.object_id[7]
    want = index.like_ids([one], 5, by="image", across="spectrum")
    found = http.post("/v1/search", json={"like": [one], "by": "image", "across": "spectrum", "k": 5})
    assert ids(found) == want.object_id[0].tolist()
    np.testing.assert_allclose([m["similarity"] for m in found.json()["matches"]], want.similarity[0], **TOL)
    assert found.json()["matches"][0]["scalars"]["redshift"] == want.rows[0, 0] / 100
    place = {"ra": houses.SKY.ra[7] + 1e-4, "dec": houses.SKY.dec[7], "by": "image", "across": "spectrum", "k": 5}
    assert ids(http.post("/v1/search", json=place)) == want.object_id[0].tolist()
    many = {"like": ["pair-3", "pair-4"], "unlike": ["pair-9"], "by": "spectrum", "k": 6}
    want = index.like_all(["pair-3", "pair-4"], 6, unwanted=["pair-9"], by="spectrum")
    assert ids(http.post("/v1/search", json=many)) == want.object_id[0].tolist()


def test_look_alikes_of_an_upload_across_modalities(house, http):
    """The body as it is, the rest in the address; `by` is what was sent."""
    seen = houses.SKY.take([8])
    seen = Observation(seen.object_id, seen.ra, seen.dec, {"spectrum": seen["spectrum"]})
    found = http.post("/v1/search?k=4&across=image", content=wire.arrow_of(seen), headers=BODY)
    want = house.indices["pairs"].like(embed(house.models["clip"], seen), 4, by="spectrum", across="image")
    assert ids(found) == want.object_id[0].tolist() and found.json()["by"] == "spectrum"
    assert ids(http.post("/v1/search", content=wire.arrow_of(seen), headers=BODY, params={"k": 1})) == ["pair-8"]


def test_filters_are_those_of_the_index(house, http):
    ask = {"like": ["pair-9"], "by": "image", "k": 3, "where": {"redshift": [0.05, None]}, "cone": [10, 0, 120]}
    where = Where(between={"redshift": (0.05, np.inf)}, cone=Cone(10, 0, 120))
    want = house.indices["pairs"].like_ids(["pair-9"], 3, by="image", where=where)
    assert ids(http.post("/v1/search", json=ask)) == want.object_id[0].tolist()


def test_an_index_of_another_model_takes_ids_but_no_uploads(house):
    alone = replace(house, models={"toy": house.models["toy"]})
    with TestClient(build(alone)) as http:
        assert len(ids(http.post("/v1/search", json={"like": ["pair-9"], "by": "image", "k": 3}))) == 3
        refused = http.post("/v1/search?by=image", content=wire.arrow_of(houses.SKY.take([1])), headers=BODY)
        assert refused.status_code == 422 and refused.json()["title"] == "ProvenanceError"


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        ({}, "input, or like, or ra and dec"),
        ({"like": ["nobody"]}, "not in this index"),
        ({"like": ["pair-1"], "k": 500}, "want 1 …"),
        ({"ra": 3}, "both or neither"),
        ({"ra": 1, "dec": 89.9}, "within 5"),
        ({"like": ["pair-1"], "index": "else"}, "no such index"),
        ({"like": ["pair-1"], "by": "light curve"}, "want image spectrum"),
        ({"like": ["pair-1"], "where": {"mass": [0, 1]}}, "mass"),
        ({"liek": ["pair-1"]}, "liek"),
        ({"like": ["pair-1"], "input": "https://else.where/a.fits"}, "addresses are not fetched"),
    ],
)
def test_what_cannot_be_searched_says_why(http, ask, said):
    answer = http.post("/v1/search", json=ask)
    assert answer.status_code == 422 and said in answer.text
    assert answer.headers["content-type"] == "application/problem+json"


# --- generate, posterior, predict --------------------------------------------------------------------------------


def test_a_galaxy_is_finished_from_its_centre(house, http):
    seen = small.galaxies(2)
    ask = {"model": "toy", "input": as_json(seen), "target": "images", "keep": 4}
    answer = http.post("/v1/generate", json=ask).json()
    assert answer["generated"] is True and [row["object_id"] for row in answer["data"]] == ["toy-0", "toy-1"]
    body = http.post("/v1/generate", json=ask, headers={"Accept": ARROW}).content
    drawn = from_arrow(pa.ipc.open_stream(body).read_all())["image"].flux
    assert drawn.shape == (2, 3, 16, 16)
    np.testing.assert_allclose(answer["data"][1]["image"]["flux"], drawn[1], rtol=1e-5)
    kept = slice(6, 10)  # within the first four patches of the spiral, shown to it
    np.testing.assert_allclose(drawn[..., kept, kept], seen["image"].flux[..., kept, kept], atol=0.51)
    assert np.abs(drawn - seen["image"].flux).max() > 1


def test_an_aion_fills_in_and_the_seed_decides(http):
    ask = {"model": "numbers", "input": as_json(houses.magnitudes(2)), "target": "tok_z", "draws": 3, "temperature": 1}
    one, two, other = (http.post("/v1/generate", json=ask | {"seed": s}).json() for s in (1, 1, 2))
    assert [row["object_id"] for row in one["data"]] == ["m0/0", "m0/1", "m0/2", "m1/0", "m1/1", "m1/2"]
    assert one == two and one["data"] != other["data"]


def test_what_is_generated_is_what_the_local_call_draws(house, http):
    seen, draw = houses.magnitudes(2), torch.Generator().manual_seed(5)
    ask = {"model": "numbers", "input": as_json(seen), "target": "z", "draws": 2, "steps": 3, "seed": 5}
    said = [row["scalars"]["z"] for row in http.post("/v1/generate", json=ask).json()["data"]]
    want = answers(house.models["numbers"], seen, ("z",), how=Roar(steps=3), draws=2, generator=draw)
    np.testing.assert_allclose(said, want["scalars"]["z"], rtol=1e-5)


def test_only_what_is_named_is_shown(house, http):
    seen, model = houses.numbers(3), house.models["numbers"]
    ask = {"model": "numbers", "input": as_json(seen), "name": "z", "inputs": ["mag"]}
    told = [row["chance"] for row in http.post("/v1/posterior", json=ask).json()["data"]]
    np.testing.assert_allclose(told, posterior(model, shown(model, seen, ("mag",), ("tok_z",)), "z").chance, rtol=1e-4)
    refused = http.post("/v1/posterior", json=ask | {"inputs": ["image"]})
    assert refused.status_code == 422 and "tok_mag" in refused.text  # what the model knows


def test_a_head_says_classes_with_their_chances(house, http):
    seen = small.galaxies(4)
    answer = http.post("/v1/predict/shape", content=wire.arrow_of(seen), headers=BODY).json()
    want = house.heads["shape"].probe.predict_proba(token_states(house.models["toy"], seen))
    assert [row["value"] for row in answer["data"]] == [("round", "flat")[i] for i in want.argmax(1)]
    np.testing.assert_allclose([row["chance"]["flat"] for row in answer["data"]], want[:, 1], atol=1e-3)  # bfloat16


def test_a_fine_tuned_model_answers_as_it_does_here(house, tmp_path):
    """Classes with their chances, and numbers, out of the folders that it saves."""
    seen = small.galaxies(40)
    kind = seen["scalars"]["class"].astype(int)
    store.save(house.models["toy"], tmp_path / "toy")
    tuned = {"kind": FineTunedModel(tmp_path / "toy", Linear()).fit(seen, kind)}
    tuned["half"] = FineTunedModel(tmp_path / "toy", Linear()).fit(seen, kind + 0.5)
    heads = {name: TunedHead(one.save(tmp_path / name)) for name, one in tuned.items()}
    http = TestClient(build(replace(house, heads=heads)))
    few = wire.arrow_of(seen.take(slice(0, 5)))
    rows = http.post("/v1/predict/kind", content=few, headers=BODY).json()["data"]
    assert [row["value"] for row in rows] == tuned["kind"].predict(seen.take(slice(0, 5))).tolist()
    want = tuned["kind"].predict_proba(seen.take(slice(0, 5)))
    np.testing.assert_allclose([[row["chance"]["0"], row["chance"]["1"]] for row in rows], want, rtol=1e-3)
    rows = http.post("/v1/predict/half", content=few, headers=BODY).json()["data"]
    np.testing.assert_allclose([row["value"] for row in rows], tuned["half"].predict(seen.take(slice(0, 5))), rtol=1e-3)
    assert rows[0]["chance"] is None


@pytest.mark.parametrize(
    ("path", "ask", "said"),
    [
        ("/v1/generate", {"model": "toy", "target": "images"}, "keep"),
        ("/v1/generate", {"model": "toy", "target": "images", "keep": 16}, "1 … 15"),
        ("/v1/generate", {"model": "toy", "target": "spectra", "keep": 4}, "want images"),
        ("/v1/generate", {"model": "clip", "target": "images"}, "does not generate"),
        ("/v1/generate", {"model": "numbers", "target": "tok_z", "keep": 3}, "fills in"),
        ("/v1/posterior", {"model": "toy", "name": "z"}, "has no posteriors"),
        ("/v1/posterior", {"model": "numbers", "name": "mass"}, "does not know"),
        ("/v1/predict/mass", {}, "no such head"),
        ("/v1/embed", {"model": "none"}, "want toy clip numbers"),
        ("/v1/embed", {"model": "clip"}, "nothing here that this model reads"),
        ("/v1/embed", {"model": "toy", "precision": "fp8"}, "precision"),
        ("/v1/embeddings", {"model": "toy", "dimensions": 3}, "the model's own"),
    ],
)
def test_what_no_model_here_can_do_is_said(http, path, ask, said):
    seen = small.galaxies(1)
    given = as_json(Observation.of(["a"], scalars=seen["scalars"]) if ask.get("model") == "clip" else seen)
    answer = http.post(path, json=ask | {"input": given})
    assert answer.status_code == 422 and said in answer.text, answer.text


# --- the virtual observatory -------------------------------------------------------------------------------------


def test_a_cone_search_is_a_votable(http):
    sky = houses.SKY
    answer = http.get("/scs", params={"RA": sky.ra[3], "DEC": sky.dec[3], "SR": 60})
    found = votable.parse_single_table(io.BytesIO(answer.content)).to_table()
    want = np.nonzero(Cone(sky.ra[3], sky.dec[3], 60).holds(sky.ra, sky.dec, np.zeros(40, int)))[0]
    assert list(found["object_id"]) == sky.object_id[want].tolist() and 1 < len(want) < 40
    np.testing.assert_allclose(found["redshift"], want / 100)
    assert found["ra"].unit == "deg"


def test_a_cone_search_of_nothing_still_tells_its_columns(http):
    answer = http.get("/scs?RA=10&DEC=10&SR=0")
    assert votable.parse_single_table(io.BytesIO(answer.content)).to_table().colnames[:3] == ["object_id", "ra", "dec"]


@pytest.mark.parametrize("words", ["RA=1&DEC=95&SR=1", "RA=1&DEC=5", "RA=nan&DEC=5&SR=1", "RA=1&DEC=5&SR=x"])
def test_a_wrong_cone_is_told_as_the_standard_says(http, words):
    answer = http.get(f"/scs?{words}")
    assert answer.status_code == 200 and b'name="Error"' in answer.content


# --- about the server, its limits and its key --------------------------------------------------------------------


def test_the_server_tells_what_it_has(house, http):
    assert http.get("/health").json() == {"status": "ok"}
    told = http.get("/info").json()
    assert told["limits"]["rows"] == 30 and told["indices"][0]["model"] == "clip" and told["heads"] == ["shape"]
    models = {one["id"]: one for one in http.get("/v1/models").json()["data"]}
    assert models["toy"]["can"] == ["embed", "generate"] and models["numbers"]["can"][-1] == "posterior"
    codec = {"part": "image", "name": "images", "kind": "SpiralPatches", "bands": list(small.BANDS)}
    assert models["toy"]["reads"] == [codec]
    http.post("/v1/embed", json={"model": "toy", "input": as_json(small.galaxies(2))})
    said = http.get("/metrics").text
    assert 'omnisky_requests_total{route="/v1/embed",status="200"}' in said
    assert 'omnisky_batch_objects_count{work="embed"}' in said and "omnisky_waiting 0.0" in said


def test_too_much_is_413(house, http):
    many = http.post("/v1/embed?model=toy", content=wire.arrow_of(small.galaxies(31)), headers=BODY)
    assert many.status_code == 413 and many.json()["saw"] == "31 objects"
    large = http.post("/v1/embed?model=toy", content=b"\xff" * ((1 << 20) + 1))
    assert large.status_code == 413 and large.json()["want"] == "at most 1,048,576"
    trickle = http.post("/v1/embed?model=toy", content=(b"\xff" * 1000 for _ in range(2000)))  # no length is told
    assert trickle.status_code == 413


def test_other_ways_in_are_refused(http):
    assert http.post("/v1/embed?model=toy", content=b"x", headers={"Content-Encoding": "gzip"}).status_code == 415
    assert http.post("/v1/embed?model=toy", content=b"hello").json()["saw"].startswith("5 bytes")
    assert http.post("/v1/embed", json={"model": "toy", "input": []}).status_code == 422
    assert http.get("/v1/nothing").headers["content-type"] == "application/problem+json"
    assert http.get("/v1/embed").status_code == 405


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer sésame".encode()}, 200),
        ({"Authorization": "Basic " + b64encode("me:sésame".encode()).decode()}, 200),
        ({"Authorization": "Basic " + b64encode(b"me:wrong").decode()}, 401),
        ({"Authorization": "Basic ☃".encode()}, 401),
        ({"Authorization": "sésame".encode()}, 401),
    ],
)
def test_a_key_is_asked_for(house, header, status):
    http = TestClient(build(replace(house, api_key="sésame")))
    answer = http.get("/v1/models", headers=header)
    assert answer.status_code == status
    assert http.get("/health").status_code == 200
    if status == 401:
        assert "Basic" in answer.headers["WWW-Authenticate"] and answer.json()["title"] == "NotAllowed"


def test_names_of_other_hosts_are_refused(house):
    http = TestClient(build(house, hosts=("localhost",)), base_url="http://evil.example")
    assert http.get("/info").status_code == 400


def test_a_bug_is_424_and_named(house, monkeypatch):
    broken = small.model()
    monkeypatch.setattr(type(broken), "vectors", lambda *_, **__: 1 / 0)
    http = TestClient(build(replace(house, models={"toy": broken})))
    answer = http.post("/v1/embed?model=toy", content=wire.arrow_of(small.galaxies(1)), headers=BODY)
    assert answer.status_code == 424 and "ZeroDivisionError" in answer.json()["saw"]


def test_the_description_names_every_schema_it_uses(http):
    told = http.get("/openapi.json").text
    names = set(http.get("/openapi.json").json()["components"]["schemas"])
    used = {part.split('"')[0] for part in told.split("#/components/schemas/")[1:]}
    assert used <= names and {"SearchAsk", "Problem", "Seen"} <= names


def test_floats_survive_base64(house, http):
    ask = {"model": "toy", "input": as_json(small.galaxies(1)), "encoding_format": "base64"}
    row = http.post("/v1/embeddings", json=ask).json()["data"][0]["embedding"]
    found = np.frombuffer(b64decode(row), "<f4")
    np.testing.assert_allclose(found, embed(house.models["toy"], small.galaxies(1)).vectors[0], **TOL)


def test_the_description_is_a_page_of_ours(http):
    """Every route and every field, no script, nothing from elsewhere."""
    page, told = http.get("/docs"), http.get("/openapi.json").json()
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in page.text and "http:" not in page.text and "https:" not in page.text
    for path in told["paths"]:
        assert f" {path}</h3>" in page.text
    for name, kind in told["components"]["schemas"].items():
        assert f'id="{name}"' in page.text
        assert all(f"<code>{field}</code>" in page.text for field in kind.get("properties", ()))


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_pages_of_others_may_not_ask(http, site, status):
    """A browser says who asks; a page elsewhere could not read the answer, but spend the machine's time."""
    asked = {"model": "toy", "input": as_json(small.galaxies(1))}
    assert http.post("/v1/embed", json=asked, headers={"Sec-Fetch-Site": site}).status_code == status
    assert http.get("/health", headers={"Sec-Fetch-Site": site}).status_code == 200


def test_very_many_unknown_words_are_counted_not_spelled_out(http):
    body = "{" + ",".join(f'"{i}":1' for i in range(3000)) + "}"
    answer = http.post("/v1/embed", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 and answer.json()["detail"].startswith("3002 words")
