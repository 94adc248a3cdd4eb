"""One page that shows what was made: an `index.html` beside its figures, readable offline, with nothing to install.

Everything the page needs is in the file or beside it; no font, script or picture comes from a network.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from omnisky.errors import BadValue, CorruptFile, ShapeMismatch
from omnisky.observe.sample import Source
from omnisky.storage import atomic


@dataclass(frozen=True)
class Table:
    """Cells as they are to be read; numbers are set to the right."""

    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    strong: Sequence[int] = ()
    """rows to be set in the accent colour"""

    def __post_init__(self) -> None:
        wrong = [len(row) for row in self.rows if len(row) != len(self.headers)]
        if wrong:
            raise ShapeMismatch("Table", saw=f"rows of {wrong} cells", want=f"{len(self.headers)}, one a header")


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph (an empty line starts another), and what it speaks of."""

    heading: str
    text: str = ""
    figure: str | Path | None = None
    """a PNG inside the folder of the page"""
    alt: str = ""
    """what the figure shows, for those who cannot see it"""
    table: Table | None = None


def write_page(
    folder: str | Path,
    title: str,
    sections: Sequence[Section],
    facts: Mapping[str, object],
    command: str = "",
    *,
    sentence: str = "",
    sources: Sequence[Source] = (),
) -> Path:
    """Write `folder/index.html` and return its path. Figures stay where they are, and must be there.

    `sentence` stands under the title, `facts` in a strip below; the foot names `sources` and the `command` that made
    it all. Every text is shown as it is, never read as HTML. Raises BadValue, CorruptFile, StorageError.
    """
    folder = Path(folder)
    body = "\n".join(_section(folder, section, number) for number, section in enumerate(sections, 1))
    said = f'<p class="sentence">{escape(sentence)}</p>' if sentence else ""
    strip = "".join(f"<div><dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd></div>" for k, v in facts.items())
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="dark">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<p class="maker">Omnisky</p>
<h1>{escape(title)}</h1>
{said}
<dl class="facts">{strip}</dl>
</header>
<main>
{body}
</main>
{_footer(sources, command)}
<script>{_ZOOM}</script>
</body>
</html>
"""
    with atomic(folder / "index.html") as draft:
        draft.write_text(page, encoding="utf-8")
    return folder / "index.html"


def _section(folder: Path, section: Section, number: int) -> str:
    paragraphs = "".join(f"<p>{escape(part.strip())}</p>" for part in section.text.split("\n\n") if part.strip())
    figure = "" if section.figure is None else _figure(folder, Path(section.figure), section.alt or section.heading)
    table = "" if section.table is None else _table(section.table)
    heading = f'<h2 id="part-{number}">{escape(section.heading)}</h2>'
    words = f'<div class="words">{heading}{paragraphs}</div>'
    return f'<section aria-labelledby="part-{number}">\n{words}{figure}{table}</section>'


def _figure(folder: Path, path: Path, alt: str) -> str:
    """An image as wide as it is, that leads to itself in full; its size in pixels keeps the page from jumping."""
    here = path if path.is_absolute() or path.exists() else folder / path
    if not here.is_file():
        raise BadValue("a figure of the page", saw=f"no file {path}", want=f"a PNG in {folder}")
    relative = Path(os.path.relpath(here.resolve(), folder.resolve()))
    if relative.parts[0] == "..":
        raise BadValue("a figure of the page", saw=here, want=f"a PNG inside {folder}", hint="draw it there")
    with open(here, "rb") as handle:
        head = handle.read(24)
    if len(head) < 24 or not head.startswith(b"\x89PNG\r\n\x1a\n"):
        raise CorruptFile(f"{here} is no PNG", saw=head[:8], want="the first bytes of a PNG")
    width, height = struct.unpack(">II", head[16:])
    link = escape("/".join(map(quote, relative.parts)))
    size = f'width="{width}" height="{height}" style="max-width: min(100%, {round(width / 1.6)}px)"'
    return f'<figure><a href="{link}"><img src="{link}" alt="{escape(alt)}" {size}></a></figure>'


def _table(table: Table) -> str:
    numbers = [all(_is_number(row[column]) for row in table.rows) for column in range(len(table.headers))]
    kinds = [' class="number"' if number and table.rows else "" for number in numbers]
    head = "".join(
        f"<th scope='col'{kind}>{escape(name)}</th>" for name, kind in zip(table.headers, kinds, strict=True)
    )
    rows = []
    for place, row in enumerate(table.rows):
        cells = "".join(f"<td{kind}>{escape(str(cell))}</td>" for cell, kind in zip(row, kinds, strict=True))
        rows.append(f"<tr{' class=strong' if place in table.strong else ''}>{cells}</tr>")
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _is_number(cell: object) -> bool:
    """Reads as a number: 3, 0.853 ± 0.005, 1,200, 12 %, –."""
    return not str(cell).strip(" 0123456789.,±+-−–%e×")


def _footer(sources: Sequence[Source], command: str) -> str:
    parts = []
    if command:
        parts.append(f"<h2>How this page was made</h2><pre><code>{escape(command)}</code></pre>")
    if sources:
        items = "".join(
            f"<li><strong>{escape(source.what)}.</strong> Cite {escape(source.citation)}. "
            f"Licence: {escape(source.licence)}.</li>"
            for source in sources
        )
        parts.append(f"<h2>Sources, citations, licences</h2><ul>{items}</ul>")
    return f"<footer>{''.join(parts)}</footer>"


_STYLE = """
:root { color-scheme: dark; --ground: #0b0d12; --raised: #12151c; --ink: #e9ecf1; --soft: #a3abb8; --faint: #272d38;
  --accent: #ffb84d; --mono: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", sans-serif;
  --serif: "Iowan Old Style", Charter, "Palatino Linotype", Palatino, "URW Palladio L", P052, Georgia,
  "Liberation Serif", serif; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 1.0625rem/1.65 var(--sans);
  overflow-wrap: break-word; }
header, main, footer { max-width: 74rem; margin: 0 auto; padding: 0 clamp(1.15rem, 4vw, 3rem); }
header { padding-top: clamp(2.5rem, 8vw, 6rem); }
.maker { margin: 0 0 1rem; color: var(--accent); font-size: .8125rem; letter-spacing: .16em;
  text-transform: uppercase; }
h1, h2 { font-family: var(--serif); font-weight: 400; text-wrap: balance; }
h1 { margin: 0; font-size: clamp(2.1rem, 5.5vw, 3.9rem); line-height: 1.1; letter-spacing: -.015em; }
.sentence { max-width: 44rem; margin: 1.4rem 0 0; color: var(--soft); font-size: clamp(1.1rem, 2vw, 1.3rem);
  line-height: 1.55; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: 1.4rem 2rem;
  margin: clamp(2rem, 5vw, 3.5rem) 0 0; padding: 1.5rem 0; border: solid var(--faint); border-width: 1px 0; }
.facts dt { color: var(--soft); font-size: .8125rem; }
.facts dd { margin: .15rem 0 0; font-size: 1.15rem; line-height: 1.35; font-variant-numeric: tabular-nums; }
section { padding-top: clamp(3.5rem, 8vw, 6rem); }
.words { max-width: 44rem; }
h2 { margin: 0 0 .9rem; font-size: clamp(1.55rem, 3vw, 2.1rem); line-height: 1.2; }
p { margin: 0 0 1em; }
.words p { color: #c9cfd9; }
figure { margin: 1.6rem 0 0; }
figure a { display: block; cursor: zoom-in; }
img { display: block; width: auto; height: auto; border-radius: 6px; outline: 1px solid var(--faint); }
a:focus-visible { outline: 2px solid var(--accent); outline-offset: 4px; }
.table { margin-top: 1.8rem; overflow-x: auto; }
table { border-collapse: collapse; min-width: min(100%, 34rem); font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-size: .875rem; font-weight: 400; text-align: left; vertical-align: bottom; }
th, td { padding: .55rem 2rem .55rem 0; border-bottom: 1px solid var(--faint); }
th:last-child, td:last-child { padding-right: 0; }
.number { text-align: right; white-space: nowrap; }
tr.strong td { color: var(--accent); }
footer { margin-top: clamp(4rem, 9vw, 7rem); padding-bottom: 4rem; color: var(--soft); font-size: .9375rem; }
footer::before { content: ""; display: block; border-top: 1px solid var(--faint); margin-bottom: 2.5rem; }
footer h2 { margin: 2rem 0 .7rem; color: var(--ink); font-size: 1.2rem; }
footer ul { max-width: 52rem; margin: 0; padding: 0; list-style: none; }
footer li { margin-bottom: .9rem; }
footer strong { color: var(--ink); font-weight: 500; }
pre { margin: 0; padding: .9rem 1.1rem; overflow-x: auto; background: var(--raised); border-radius: 6px;
  color: var(--ink); font: .9375rem/1.5 var(--mono); }
dialog { width: 100vw; height: 100vh; height: 100dvh; max-width: none; max-height: none; margin: 0; padding: 0;
  border: 0; overflow: auto; background: rgb(6 7 10 / .96); cursor: zoom-out; }
dialog img { margin: auto; max-width: none; border-radius: 0; outline: 0; }
dialog[open] { display: flex; outline: 0; }
@media (max-width: 40rem) { figure::after { content: "tap to enlarge"; display: block; margin-top: .4rem;
  color: var(--soft); font-size: .8125rem; } table { font-size: .9375rem; line-height: 1.4; }
  th, td { padding-right: 1.2rem; } .words p { line-height: 1.6; } }
@media print { :root { --ground: #fff; --ink: #000; --soft: #444; --faint: #ccc; --accent: #9a5b00; --raised: #f4f4f4; }
  .words p { color: #222; } section { break-inside: avoid; } }
"""

# Without it a click opens the picture itself.
_ZOOM = """
document.querySelectorAll("figure a").forEach(link => link.addEventListener("click", event => {
  if (event.metaKey || event.ctrlKey || !window.HTMLDialogElement) return;
  event.preventDefault();
  const box = document.createElement("dialog"), whole = link.firstElementChild.cloneNode();
  whole.removeAttribute("style");
  box.append(whole);
  box.addEventListener("click", () => box.close());
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
}));
"""
