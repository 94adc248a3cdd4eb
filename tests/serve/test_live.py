"""A server that listens: over sockets, with slow clients; going down, and killed."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("uvicorn")

import houses
import small
import uvicorn

from omnisky import cli
from omnisky.embed import embed
from omnisky.model import store
from omnisky.serve import Client, wire
from omnisky.serve.app import build
from omnisky.serve.batch import Desk
from omnisky.serve.door import within
from omnisky.serve.house import House
from omnisky.serve.site import mount


@contextmanager
def listening(house: House, app: Any = None) -> Iterator[tuple[str, uvicorn.Server]]:
    """The address of a server in a thread."""
    config = uvicorn.Config(app or build(house), http=within(house.limits), port=0, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", server
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def test_pyvo_reads_the_cone_search():
    vo = pytest.importorskip("pyvo")
    with listening(houses.house()) as (address, _):
        sky = houses.SKY
        found = vo.dal.SCSService(f"{address}/scs").search(pos=(sky.ra[3], sky.dec[3]), radius=60)
        assert sky.object_id[3] in list(found["object_id"]) and len(found) > 1
        with pytest.raises(vo.DALQueryError, match="degrees"):
            vo.dal.SCSService(f"{address}/scs").search(pos=(3, 3), radius=181)


def test_going_down_loses_no_request_that_was_taken(monkeypatch):
    """Told to stop in the middle of forty requests, it answers all that reached the desk, each with its own."""
    seen, house, taken = small.galaxies(40), houses.house(batch=1), []
    want, ask = embed(house.models["toy"], seen).vectors, Desk.ask

    async def noted(self, key, rows, work):
        answer = ask(self, key, rows, work)
        taken.append(rows.object_id[0])
        return await answer

    monkeypatch.setattr(Desk, "ask", noted)
    with listening(house) as (address, server), Client(address, retries=0) as client:
        client.models()
        with ThreadPoolExecutor(40) as pool:
            asked = [pool.submit(client.embed, "toy", seen.take([i])) for i in range(40)]
            while not any(one.done() for one in asked):
                time.sleep(0.001)
            server.should_exit = True
            found = [one.result() for one in asked if one.exception() is None]
    assert taken and sorted(one.object_id[0] for one in found) == sorted(taken)
    for one in found:
        np.testing.assert_allclose(one.vectors[0], want[int(one.object_id[0][4:])], rtol=1e-4, atol=1e-5)


def test_a_client_that_dribbles_is_let_go():
    house = houses.house(seconds=0.5)
    with listening(house) as (address, _):
        with socket.create_connection(("127.0.0.1", int(address.rsplit(":")[-1]))) as slow:
            slow.sendall(b"POST /v1/embed?model=toy HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
            slow.settimeout(5)
            said = b"".join(iter(lambda: slow.recv(4096), b""))
        assert b" 408 " in said and b"did not come within 0.5 s" in said
        with Client(address) as client:
            assert "toy" in client.models()


def heard(wire: socket.socket) -> bytes:
    """All until the other side hangs up."""
    wire.settimeout(5)
    return b"".join(iter(lambda: wire.recv(4096), b""))


def test_who_never_ends_a_header_is_let_go():
    """Though bytes keep coming, and though all was well before; who is slow within the time is answered."""
    whole = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with listening(houses.house(header_seconds=0.8)) as (address, _), ExitStack() as wires:
        place = ("127.0.0.1", int(address.rsplit(":")[-1]))
        silent, new, used, late = (wires.enter_context(socket.create_connection(place)) for _ in range(4))
        used.sendall(whole)
        assert b" 200 " in used.recv(4096)
        started = time.monotonic()
        for one, piece in ((new, b"GET / HT"), (used, whole[:-2]), (late, whole[:9])):
            one.sendall(piece)
        for _ in range(5):
            time.sleep(0.05)
            new.sendall(b"X"), used.sendall(b"X")
        late.sendall(whole[9:-2] + b"Connection: close\r\n\r\n")
        assert b" 200 " in heard(late)
        with Client(address) as client:
            assert "toy" in client.models()
        for one in (silent, new, used):
            said = heard(one)
            assert b" 408 " in said and b"header did not come within 0.8 s" in said
        assert 0.7 < time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--host", "0.0.0.0"), "want a key"),
        (("--host", "192.168.1.2"), "want a key"),
        (("no-such-model",), "omnisky-nano"),
        (("--rows", "0"), "more than 0"),
        (("a=x", "a=y"), "each name once"),
        (("omnisky-nano", "--index", "nowhere"), "nowhere"),
    ],
)
def test_serve_refuses_by_name(words, said, capsys, monkeypatch):
    monkeypatch.delenv("OMNISKY_API_KEY", raising=False)
    with pytest.raises(SystemExit) as end:
        cli.main(["serve", *words])
    assert end.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_and_started_again_it_answers_as_before(tmp_path):
    """Two models, a process of its own, killed while it works; the client asks again until it is back."""
    for name, seed in (("one", 1), ("two", 2)):
        store.save(small.model(seed=seed), tmp_path / name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [sys.executable, "-m", "omnisky", "serve", str(tmp_path / "one"), f"b={tmp_path / 'two'}", "--port", port]
    seen, address = small.galaxies(200), f"http://127.0.0.1:{port}"
    want = {name: embed(store.load(tmp_path / folder), seen).vectors for name, folder in (("one", "one"), ("b", "two"))}
    with ExitStack() as processes:

        def start() -> subprocess.Popen[str]:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            processes.callback(process.kill)
            return process

        first = start()
        assert first.stdout.readline().startswith(f"{address} serves one, b")
        with Client(address, retries=40) as client, ThreadPoolExecutor(2) as pool:
            client.models()
            asked = {name: pool.submit(client.embeddings, seen, name, batch=1) for name in want}
            time.sleep(0.3)
            first.kill()
            first.communicate()
            second = start()
            for name, one in asked.items():
                np.testing.assert_allclose(one.result(), want[name], rtol=1e-4, atol=1e-5)
        second.send_signal(signal.SIGINT)
        second.communicate(timeout=20)
        assert second.returncode in (0, -signal.SIGINT, 130)


def test_who_leaves_is_not_answered(monkeypatch):
    """Of three requests behind a busy model, those whose clients hung up are never computed."""
    taken, busy, computed, serve = threading.Event(), threading.Event(), [], Desk._serve

    def held(self, jobs):
        taken.set()
        assert busy.wait(30)
        computed.extend(name for job in jobs for name in job.seen.object_id.tolist())
        serve(self, jobs)

    desks = []
    monkeypatch.setattr(Desk, "_serve", held)
    begin = Desk.__init__
    monkeypatch.setattr(Desk, "__init__", lambda self, **more: (desks.append(self), begin(self, **more))[0])
    seen = small.galaxies(4)
    with (
        listening(houses.house()) as (address, _),
        ThreadPoolExecutor(1) as pool,
        Client(address) as client,
        ExitStack() as last,
    ):
        last.callback(busy.set)
        first = pool.submit(client.embed, "toy", seen.take([0]))
        assert taken.wait(30)  # else those behind it might be taken with it
        wires = []
        for i in (1, 2, 3):
            body = wire.arrow_of(seen.take([i]))
            head = f"POST /v1/embed?model=toy HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            wires.append(socket.create_connection(("127.0.0.1", int(address.rsplit(":")[-1]))))
            wires[-1].sendall(head.encode() + body)
        (desk,) = desks
        until(lambda: len(desk) == 3)
        for one in wires[:2]:
            one.close()
        until(lambda: len(desk) == 1)
        busy.set()
        assert len(first.result()) == 1 and b" 200 " in wires[2].recv(4096)
        wires[2].close()
    assert computed == seen.object_id[[0, 3]].tolist()


def until(done, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_who_takes_no_answer_is_let_go(tmp_path):
    """It would hold the answer in memory, and the server from going down; who takes it slowly gets all of it."""
    size = 24 << 20
    (tmp_path / "large.bin").write_bytes(bytes(size))
    app = build(houses.house(seconds=0.5))
    mount(app, tmp_path)
    with listening(houses.house(seconds=0.5), app) as (address, _), ExitStack() as wires:
        place = ("127.0.0.1", int(address.rsplit(":")[-1]))
        idle, slow = (wires.enter_context(socket.create_connection(place)) for _ in range(2))
        for one in (idle, slow):
            one.sendall(b"GET /large.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        slow.settimeout(10)
        taken = 0
        while more := slow.recv(4 << 20):
            taken += len(more)
            time.sleep(0.05)
        assert taken > size
        time.sleep(0.7)
        idle.settimeout(5)
        with suppress(ConnectionResetError):  # what was on its way, and then no more
            got = 0
            while more := idle.recv(1 << 20):
                got += len(more)
            assert got < size
