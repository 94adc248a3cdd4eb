"""The page: well-formed, complete without a network, and every word shown as it is."""

import re
import struct
import zlib
from html.parser import HTMLParser

import pytest

from omnisky.errors import BadValue, CorruptFile, ShapeMismatch, StorageError
from omnisky.observe.sample import SOURCES
from omnisky.page import Section, Table, write_page

EVIL = "<script>alert(1)</script> & \"quotes\" 'apostrophes' </section>"
VOID = {"meta", "img", "br", "link", "hr", "input"}


def png(path, width=320, height=200):
    """The smallest true PNG: black."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + b"\0" * width) * height)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


class Walk(HTMLParser):
    """Reads a page; complains of tags that do not close in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if data.strip():
            self.words.append((self.open[-1] if self.open else "", data.strip()))

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def said(self, tag):
        return [words for inside, words in self.words if inside == tag]


def read(path) -> Walk:
    walk = Walk()
    walk.feed(path.read_text(encoding="utf-8"))
    walk.close()
    assert walk.open == []
    return walk


def make(folder, **more):
    figure = png(folder / "look alikes.png")
    table = Table(("method", "accuracy"), (("ours", "0.9 ± 0.01"), ("theirs", 0.8)), strong=(0,))
    sections = [Section("First", "One.\n\nTwo.", figure, "a wall", table), Section("Second", "Only words.")]
    facts = {"model": "omnisky-nano", "galaxies": 569}
    return write_page(folder, "A page", sections, facts, "omnisky demo", sentence="It works.", **more)


def test_the_page_is_whole(tmp_path):
    path = make(tmp_path, sources=list(SOURCES.values()))
    assert path == tmp_path / "index.html"
    walk = read(path)
    assert walk.said("h1") == ["A page"] == walk.said("title")
    assert walk.said("h2")[:2] == ["First", "Second"]
    assert walk.said("dt") == ["model", "galaxies"] and walk.said("dd") == ["omnisky-nano", "569"]
    assert walk.said("code") == ["omnisky demo"]
    assert walk.said("td") == ["ours", "0.9 ± 0.01", "theirs", "0.8"]
    assert [p for p in walk.said("p") if p in ("One.", "Two.", "It works.", "Only words.")] == [
        *("It works.", "One.", "Two.", "Only words.")
    ]
    text = " ".join(words for _, words in walk.words)
    assert all(source.citation in text and source.licence in text for source in SOURCES.values())
    assert walk.all("html") == [{"lang": "en"}] and {"charset": "utf-8"} in walk.all("meta")
    assert [attrs.get("class") for attrs in walk.all("tr")] == [None, "strong", None]
    assert [attrs.get("class") for attrs in walk.all("td")] == [None, "number"] * 2, "numbers stand to the right"


def test_every_image_is_there_with_its_size_and_words(tmp_path):
    (image,) = read(make(tmp_path)).all("img")
    assert image["src"] == "look%20alikes.png"
    assert (tmp_path / image["src"].replace("%20", " ")).exists()
    assert (image["width"], image["height"], image["alt"]) == ("320", "200", "a wall")


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    """No address with a scheme or host in anything that loads, nor in styles or scripts: works from file://."""
    path = make(tmp_path, sources=list(SOURCES.values()))
    walk = read(path)
    loads = [
        value for _, attrs in walk.tags for key, value in attrs.items() if key in ("src", "href", "srcset", "data")
    ]
    assert loads == ["look%20alikes.png"] * 2
    assert not walk.all("link") and not walk.all("iframe")
    code = " ".join(walk.said("style") + walk.said("script"))
    assert not re.search(r"https?:|//|url\(|@import|fetch|XMLHttp", code)


def test_every_text_is_shown_as_it_is(tmp_path):
    figure = png(tmp_path / "a.png")
    table = Table((EVIL,), ((EVIL,),))
    path = write_page(tmp_path, EVIL, [Section(EVIL, EVIL, figure, EVIL, table)], {EVIL: EVIL}, EVIL, sentence=EVIL)
    walk = read(path)
    assert len(walk.all("script")) == 1, "ours, for zooming"
    for tag in ("title", "h1", "h2", "dt", "dd", "p", "th", "td", "code"):
        assert EVIL in walk.said(tag), tag
    assert walk.all("img")[0]["alt"] == EVIL


def test_a_page_of_nothing_is_a_page(tmp_path):
    walk = read(write_page(tmp_path / "new", "Empty", [], {}))
    assert walk.all("section") == [] and walk.said("h1") == ["Empty"]


def test_a_figure_is_found_by_its_name_in_the_folder(tmp_path, monkeypatch):
    (tmp_path / "out" / "deep").mkdir(parents=True)
    png(tmp_path / "out" / "deep" / "a.png")
    for figure in ("deep/a.png", tmp_path / "out" / "deep" / "a.png"):
        (image,) = read(write_page(tmp_path / "out", "t", [Section("h", figure=figure)], {})).all("img")
        assert (image["src"], image["alt"]) == ("deep/a.png", "h")
    monkeypatch.chdir(tmp_path)
    (image,) = read(write_page("out", "t", [Section("h", figure="out/deep/a.png")], {})).all("img")
    assert image["src"] == "deep/a.png"


def test_figures_that_would_not_show_are_refused(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    outside = png(tmp_path / "outside.png")
    (folder / "not.png").write_bytes(b"GIF89a")
    for figure, error in (("none.png", BadValue), (outside, BadValue), ("not.png", CorruptFile)):
        with pytest.raises(error):
            write_page(folder, "t", [Section("h", figure=figure)], {})
    assert [path.name for path in folder.iterdir()] == ["not.png"]


def test_an_old_page_survives_a_failure(tmp_path):
    before = make(tmp_path).read_bytes()
    with pytest.raises(BadValue):
        write_page(tmp_path, "new", [Section("h", figure="none.png")], {})
    assert (tmp_path / "index.html").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "look alikes.png"]


def test_a_table_with_a_short_row_is_refused():
    with pytest.raises(ShapeMismatch, match="one a header"):
        Table(("a", "b"), (("1", "2"), ("3",)))


def test_a_folder_that_is_a_file_is_an_error_of_ours(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_page(tmp_path / "file", "t", [], {})
