"""The client says what the same call would say here, in whatever pieces it asked, and whoever was busy."""

import asyncio
import inspect
import json
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

import houses
import httpx
import small

import omnisky
from omnisky.errors import BandMismatch, NotAllowed, ServiceError, UnknownModel
from omnisky.generate import posterior
from omnisky.observe.types import Image, Observation
from omnisky.serve import AsyncClient, Client
from omnisky.serve.app import build

TOL = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def house():
    return houses.house(rows=30, api_key="sesame")


@pytest.fixture(scope="module")
def transport(house):
    return httpx.ASGITransport(app=build(house))


@pytest.fixture(scope="module")
def client(transport):
    with Client("http://here", api_key="sesame", transport=transport) as made:
        yield made


def test_code_moves_between_here_and_there():
    """`embed` takes what `omnisky.embed` takes, by the same names, with the same defaults."""
    here = inspect.signature(omnisky.embed).parameters
    for kind in (Client, AsyncClient):
        there = dict(inspect.signature(kind.embed).parameters)
        del there["self"]
        assert list(there) == list(here)
        assert [one.default for one in there.values()] == [one.default for one in here.values()]
        assert list(inspect.signature(kind.embeddings).parameters)[1:3] == ["seen", "model"]


def test_the_same_vectors_in_any_pieces(house, client):
    seen, told = small.galaxies(21), []
    want = omnisky.embed(house.models["toy"], seen)
    found = client.embed("toy", seen, batch=4, watch=lambda done, total: told.append((done, total)))
    np.testing.assert_allclose(found.vectors, want.vectors, **TOL)
    assert found.object_id.tolist() == want.object_id.tolist() and found.signature == want.signature
    assert told[-1] == (21, 21) and len(told) == 6 and sorted(told) == told
    np.testing.assert_allclose(client.embeddings(seen.take([3]), "toy"), want.vectors[[3]], **TOL)


def test_an_image_alone_is_enough(house, client):
    image = small.galaxies(3)["image"]
    assert isinstance(image, Image)
    want = omnisky.embed(house.models["toy"], Observation.of("abc", image=image)).vectors
    np.testing.assert_allclose(client.embeddings(image, "toy"), want, **TOL)


def test_pieces_that_are_too_much_are_halved(house, client):
    """The server takes 30 objects a request, and the pieces are of 100."""
    seen = small.galaxies(70)
    want = omnisky.embed(house.models["toy"], seen)
    found = client.embed("toy", seen, batch=100)
    assert found.object_id.tolist() == want.object_id.tolist()
    np.testing.assert_allclose(found.vectors, want.vectors, **TOL)


def test_search_predict_and_posterior(house, client):
    index = house.indices["pairs"]
    found = client.search(houses.SKY.take([8]), by="spectrum", across="image", k=4)
    asked = omnisky.embed(house.models["clip"], houses.SKY.take([8]), part="spectrum")
    assert found["object_id"].to_pylist() == index.like(asked, 4, by="spectrum", across="image").object_id[0].tolist()
    near = client.search(like=["pair-9"], by="image", between={"redshift": (0.3, None)}, k=3)
    assert min(near["redshift"].to_pylist()) >= 0.3
    said = client.predict("shape", small.galaxies(5), batch=2)
    assert said.column_names == ["object_id", "value", "round", "flat"] and said.num_rows == 5
    seen = houses.magnitudes(5)
    there, here = client.posterior("numbers", seen, "z", batch=2), posterior(house.models["numbers"], seen, "z")
    np.testing.assert_allclose(there.chance, here.chance, rtol=1e-4)
    assert there.name == here.name and client.models() == ("toy", "clip", "numbers")


def test_it_works_where_a_loop_is_running(client):
    """As in a notebook."""

    async def cell():
        return client.models()

    assert asyncio.run(cell())[0] == "toy"


def test_many_at_once_and_nothing_mixed_up(house, transport):
    seen = small.galaxies(24)
    want = omnisky.embed(house.models["toy"], seen).vectors

    async def ask():
        async with AsyncClient("http://here", api_key="sesame", transport=transport) as client:
            rows = [seen.take([i]) for i in range(24)]
            return await asyncio.gather(*(client.embeddings(row, "toy") for row in rows))

    np.testing.assert_allclose(np.concatenate(asyncio.run(ask())), want, **TOL)


def test_errors_are_those_of_the_local_call(client, transport):
    image = small.galaxies(1)["image"]
    with pytest.raises(UnknownModel, match="want toy clip numbers"):
        client.embeddings(image, "none")
    with pytest.raises(BandMismatch) as caught:
        client.embeddings(Image(flux=image.flux, bands=("g", "r", "z"), unit="display"), "toy")
    assert caught.value.saw == "g r z"
    with Client("http://here", api_key="wrong", transport=transport) as stranger, pytest.raises(NotAllowed):
        stranger.models()


# --- servers that are busy, away, or no server at all -------------------------------------------------------------


def answering(*statuses: int | type[Exception]) -> tuple[Client, list]:
    """A client whose server says these, one after the other, and what it was asked."""
    asked, left = [], list(statuses)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        status = left.pop(0) if len(left) > 1 else left[0]
        if not isinstance(status, int):
            raise status("away")
        body = {"data": [{"id": "m"}]} if status == 200 else {"title": "Busy", "detail": "no", "status": status}
        return httpx.Response(status, content=json.dumps(body))

    return Client("http://there", transport=httpx.MockTransport(answer), retries=3), asked


@pytest.fixture
def no_waiting(monkeypatch):
    waited = []
    sleep = asyncio.sleep

    async def short(seconds):
        waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr("omnisky.serve.client.asyncio.sleep", short)
    return waited


def test_it_asks_again_and_waits_longer_each_time(no_waiting):
    client, asked = answering(429, 503, httpx.ConnectError, 200)
    with client:
        assert client.models() == ("m",) and len(asked) == 4
    assert 0.05 <= no_waiting[0] <= 0.1 <= no_waiting[1] <= 0.2 <= no_waiting[2] <= 0.4


def test_it_gives_up_in_the_end(no_waiting):
    client, asked = answering(httpx.ConnectError)
    with client, pytest.raises(ServiceError, match="is it running"):
        client.models()
    assert len(asked) == 4


def test_a_refusal_is_not_asked_again(no_waiting):
    client, asked = answering(422)
    with client, pytest.raises(ServiceError):
        client.models()
    assert len(asked) == 1 and no_waiting == []


def test_closing_lets_go_of_the_thread():
    client, _ = answering(200)
    (thread,) = [one for one in threading.enumerate() if one.name == "omnisky-client"][-1:]
    assert thread.daemon  # who does not close holds nobody up
    client.close()
    thread.join(5)
    assert not thread.is_alive()


def test_the_example_of_the_docs_runs_as_printed(house, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    example = text.split("```python\n")[1].split("```")[0]
    assert "Client" in example and "embed(" in example
    named = {"models": {"omnisky-nano": house.models["toy"], "clip": house.models["clip"]}}
    named["heads"] = {"omnisky-nano": house.heads["shape"]}
    transport = httpx.ASGITransport(app=build(replace(house, api_key="", **named)))
    monkeypatch.setattr("omnisky.Client", partial(Client, transport=transport))
    told = {"galaxies": houses.SKY.take(slice(0, 8))}
    exec(example, told)
    assert told["vectors"].shape == told["found"].vectors.shape == (8, 16)
