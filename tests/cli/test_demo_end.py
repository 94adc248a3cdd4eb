"""`omnisky demo` ends by serving what it made where somebody is there to end it, and nowhere else."""

from http.server import ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from omnisky.cli import main
from omnisky.embed import Embedding
from omnisky.model.store import shipped_models
from omnisky.search import Index
from omnisky.serve.explore import Sky
from omnisky.serve.site import write_site


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Addresses that were listened at; Ctrl-C comes at once."""
    vectors = np.eye(3, 4, dtype=np.float32)
    index = Index(Embedding(vectors, np.array(["a", "b", "c"]), np.zeros(3), np.zeros(3), "s"))

    def told(out, *_):
        sky = Sky(name="toys", title="Toys", index=index)
        write_site(out / "explorer", [sky])
        return SimpleNamespace(folder=out, sections=[], seconds={}, skies=[sky])

    def listen(self):
        ports.append(self.server_port)
        raise KeyboardInterrupt

    ports: list[int] = []
    monkeypatch.setattr("omnisky.demo.sample_demo", told)
    monkeypatch.setattr("omnisky.demo.data_demo", told)
    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", listen)
    monkeypatch.chdir(tmp_path)
    return ports


def demo(monkeypatch, *words: str, terminal: bool) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: terminal))
    with pytest.raises(SystemExit) as end:
        main(["demo", *words])
    assert not end.value.code


def test_in_a_terminal_the_explorer_is_served_with_the_shipped_models_behind_it(served, monkeypatch, capsys):
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    heard = []

    def run(self, sockets):
        heard.append(sockets[0].getsockname()[1])
        with TestClient(self.config.app) as http:
            heard.extend(one["id"] for one in http.get("/v1/models", headers={"Host": "127.0.0.1"}).json()["data"])

    from fastapi.testclient import TestClient

    monkeypatch.setattr(uvicorn.Server, "run", run)
    demo(monkeypatch, terminal=True)
    assert heard[1:] == list(shipped_models()) and served == []
    assert f"walk through it: http://127.0.0.1:{heard[0]}/" in capsys.readouterr().out


def test_without_the_extra_plain_files_are_served_and_it_is_said(served, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    demo(monkeypatch, terminal=True)
    said = capsys.readouterr().out
    assert len(served) == 1 and f"http://127.0.0.1:{served[0]}/" in said and "omnisky[serve]" in said


@pytest.mark.parametrize(
    ("words", "terminal"), [((), False), (("--no-serve",), True), (("--data", "galaxies"), True)], ids=str
)
def test_scripts_are_told_what_to_type(served, monkeypatch, capsys, words, terminal):
    demo(monkeypatch, *words, terminal=terminal)
    assert served == [] and "walk through it: omnisky explore demo" in capsys.readouterr().out
