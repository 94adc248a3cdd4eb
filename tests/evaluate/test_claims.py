"""A claim holds by its numbers alone, what cannot be measured is said not to be, and nothing is measured twice."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omnisky import cli
from omnisky.adapt.score import Score
from omnisky.demo.claims import said, write_claims
from omnisky.embed import Embedding
from omnisky.errors import CorruptFile
from omnisky.evaluate.claims import fusion, runs, sky, zoo
from omnisky.evaluate.claims.found import Claim, Grid, Inputs, Result, Task, Wanted, kept
from omnisky.evaluate.claims.sources import CLAIMS
from omnisky.evaluate.claims.table import TASKS, Row, Table, measure

DOCS = Path(__file__).parents[2] / "docs"
HOLDING = Claim(key="a", source="A paper", words="It | works", number="n", paper="1", data="toys")


@pytest.fixture
def given(tmp_path):
    (tmp_path / "data" / "toys").mkdir(parents=True)
    (tmp_path / "data" / "toys" / "one.csv").write_text("x\n1\n")
    return Inputs(tmp_path / "data", tmp_path / "runs", tmp_path / "runs" / "claims")


def counted(calls: list[str]) -> Task:
    def make(given: Inputs) -> Result:
        calls.append("made")
        drawn = {"labels": [1, 2], "curves": {"omnisky-nano": [[0.5, 0.9], [0.1, 0.1]]}}
        return Result({"a": Score(0.5, 0.1)}, (Grid("A title", ("by", "how"), (("us", "0.5"),)),), drawn)

    return Task("toy", make, ("toys",))


# --- the verdict --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "clearly", "loosely"),
    [(0.5, True, True), (0.15, False, True), (-0.15, False, True), (-0.25, False, False)],
)
def test_two_errors_decide(value, clearly, loosely):
    found = Score(value, 0.1)
    assert (Wanted().held(found), Wanted(clearly=False).held(found)) == (clearly, loosely)


def test_nan_never_holds():
    assert not Wanted(-1e9, clearly=False).held(Score(float("nan"), 0.0))


def test_what_was_not_measured_neither_holds_nor_fails():
    rows = (Row(HOLDING, Score(1, 0.1)), Row(HOLDING, Score(-1, 0.1)), Row(HOLDING, None))
    assert [row.verdict for row in rows] == ["holds", "does not hold", "not measured"]
    assert [said(row) for row in rows] == ["1.00 ± 0.10", "-1.00 ± 0.10", "–"]


# --- the sources --------------------------------------------------------------------------------------------------


def test_every_claim_is_there_once_and_every_command_is_one():
    assert len({claim.key for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        words = [word for word in shlex.split(claim.command.split(">")[0]) if not word.startswith("--")]
        if words:
            assert words[0] == "omnisky"
            assert set(words[1:3]) <= {"evaluate", *cli.app["evaluate"]}, claim.command


def test_tasks_have_names_of_their_own():
    assert len({task.name for task in TASKS}) == len(TASKS)


# --- kept ---------------------------------------------------------------------------------------------------------


def test_a_result_is_made_once_and_again_when_its_data_changed(given):
    calls: list[str] = []
    task = counted(calls)
    first, again = kept(task, given), kept(task, given)
    assert len(calls) == 1
    assert again.scores == first.scores and again.grids == first.grids and again.drawn == first.drawn
    (given.folder("toys") / "one.csv").write_text("x\n2\n")
    kept(task, given)
    assert len(calls) == 2


def test_a_broken_result_is_named(given):
    kept(counted([]), given)
    (given.work / "toy.json").write_text('{"signature": ')
    with pytest.raises(CorruptFile, match=r"toy\.json"):
        kept(counted([]), given)


def test_without_its_data_a_claim_is_not_measured(given):
    task = counted([])
    with_data = measure(given, tasks=(task,), claims=(HOLDING,))
    for less in (replace(given, data=None), replace(given, data=given.runs)):
        without = measure(less, tasks=(task,), claims=(HOLDING,))
        assert without.rows[0].found is None and not without.results
    assert with_data.rows[0].verdict == "holds"
    assert measure(given, tasks=(task,), claims=(HOLDING,), only=("another",)).count("not measured") == 1


# --- the page -----------------------------------------------------------------------------------------------------


def test_the_page_says_what_was_found(given, tmp_path):
    pytest.importorskip("matplotlib")
    missing = replace(HOLDING, key="b", command="")
    table = measure(given, tasks=(counted([]),), claims=(HOLDING, missing))
    page = write_claims(table, tmp_path / "docs", "omnisky evaluate all").read_text()
    assert "2 claims: 1 hold, 0 do not, 1 are not measured" in page
    assert "| A paper | It \\| works | n | 0.50 ± 0.10 | > 0 by 2 σ | holds | 1 | toys |" in page
    assert "`omnisky evaluate all --data DATA --only toy`" in page
    assert "A title." in page and "(claims-learning-curves.png)" in page
    assert (tmp_path / "docs" / "claims-learning-curves.png").stat().st_size > 1000
    states = json.loads((tmp_path / "docs" / "claims.json").read_text())
    assert [state["found"] for state in states] == [[0.5, 0.1], None]
    assert [state["verdict"] for state in states] == ["holds", "not measured"]


def test_a_table_of_nothing_is_a_page_too(tmp_path):
    page = write_claims(Table((Row(HOLDING, None),), {}), tmp_path, "omnisky evaluate all").read_text()
    assert "0 hold" in page and "not measured" in page


def test_the_command(tmp_path, capsys):
    words = ["evaluate", "all", "--runs", tmp_path / "runs", "--out", tmp_path / "docs", "--only", "scaling"]
    with pytest.raises(SystemExit) as end:
        cli.main([*map(str, words), "--json"])
    assert not end.value.code
    states = json.loads(capsys.readouterr().out)
    assert len(states) == len(CLAIMS) and {state["verdict"] for state in states} == {"not measured"}
    assert (tmp_path / "docs" / "claims.md").exists()
    with pytest.raises(SystemExit) as end:
        cli.main(["evaluate", "all", "--only", "nothing"])
    assert end.value.code == 2


# --- the tasks' own rules -----------------------------------------------------------------------------------------


def runs_with(folder, losses, accuracies):
    for i, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True)):
        (folder / "scaling" / str(i)).mkdir(parents=True)
        point = {"name": str(i), "parameters": 10 ** (5 + i), "flop": [1.0], "held_out": [1.0, loss]}
        (folder / "scaling" / str(i) / "point.json").write_text(
            json.dumps(point | {"accuracy": accuracy, "error": 0.01})
        )


def test_scaling_is_read_from_its_points(given):
    assert not runs.scaling(given).scores
    runs_with(given.runs, [0.4, 0.3, 0.31, 0.2], [0.5, 0.6, 0.59, 0.7])
    found = runs.scaling(given).scores
    assert found["astropt/loss"].value == pytest.approx(2 / 3)
    assert found["astropt/probe"].value > 0.95 and 0 < found["astropt/probe"].error < 0.1


def test_astroclip_is_read_from_its_json(given):
    assert not runs.astroclip(given).scores
    given.runs.mkdir()
    claims = [
        {"claim": runs.FROM_ASTROCLIP["astroclip/kept"], "found": [-0.1, 0.02]},
        {"claim": "new", "found": [1, 1]},
    ]
    state = {"learnt": 10, "tested": 5, "claims": claims, "r2": {"image": {"redshift": [0.5, 0.01]}}}
    (given.runs / "astroclip.json").write_text(json.dumps(state))
    found = runs.astroclip(given)
    assert found.scores == {"astroclip/kept": Score(-0.1, 0.02)}
    assert found.grids[0].rows == (("image", "0.500 ± 0.010"),)
    (given.runs / "astroclip.json").write_text("{")
    with pytest.raises(CorruptFile, match=r"astroclip\.json"):
        runs.astroclip(given)


def test_what_aion_judged_itself_is_a_row_of_its_own(given):
    assert not runs.aion(given).scores
    (given.runs / "aion").mkdir(parents=True)
    claims = [{"claim": "Flux is conserved", "found": [0.02, 0.001], "wanted": "within 0.05", "holds": True}]
    state = {"claims": claims, "redshifts": [{"width": [0.2, 0.0]}, {"width": [0.05, 0.005]}]}
    (given.runs / "aion" / "aion.json").write_text(json.dumps(state))
    table = measure(given, only=("aion",))
    narrower = table.results["aion"].scores["aion/posterior"]
    assert (narrower.value, narrower.error) == (0.75, pytest.approx(0.025))
    own = table.rows[-1]
    assert (own.claim.words, own.wanted, own.verdict) == ("Flux is conserved", "within 0.05", "holds")
    assert measure(given, only=("aion",)).rows[-1] == own  # from disk, too
    (given.runs / "aion" / "aion.json").write_text(json.dumps(state | {"claims": [claims[0] | {"holds": False}]}))
    assert measure(given, only=("aion",)).rows[-1].verdict == "does not hold"


def test_a_run_that_is_gone_is_read_from_its_page_and_says_so(given, tmp_path):
    """Each committed copy gives the rows that its page has; what a run left goes before."""
    pages = replace(given, measured=DOCS / "measured")
    table = measure(pages, only=("scaling", "astroclip", "aion"))
    rows = {row.claim.key: row for row in table.rows}
    assert not [key for key in rows if key.startswith(("astropt/loss", "astroclip/kept")) and rows[key].found is None]
    assert rows["astroclip/kept"].found == Score(0.018, 0.012)
    assert "docs/astroclip.md as of 20" in rows["astroclip/kept"].note
    assert sum(row.claim.source == "AION" for row in table.rows) == 14
    page = write_claims(table, tmp_path / "docs", "omnisky evaluate all").read_text()
    assert page.count("not measured again: docs/aion.md as of") == 15
    assert measure(pages, only=("scaling", "astroclip", "aion")).rows == table.rows  # from disk, too
    runs_with(given.runs, [0.4, 0.3, 0.2], [0.5, 0.6, 0.7])
    assert measure(pages, only=("scaling",)).results["scaling"].note == ""


def test_copies_say_what_their_pages_say():
    """No number was typed: each stands in a table of the page."""
    for name in ("scaling", "astroclip", "aion"):
        told = json.loads((DOCS / "measured" / f"{name}.json").read_text())
        cells = (DOCS.parent / told["page"]).read_text().replace(",", "").replace("±", " ").replace("|", " ").split()
        written = {float(word) for word in cells if re.fullmatch(r"-?\d+(\.\d+)?", word)}
        numbers = [one for one in _numbers(told["state"]) if not isinstance(one, bool)]
        assert len(numbers) > 10 and not [one for one in numbers if one not in written]


def _numbers(state):
    if isinstance(state, dict | list):
        return [one for part in (state.values() if isinstance(state, dict) else state) for one in _numbers(part)]
    return [] if isinstance(state, str) else [state]


def test_the_same_objects_are_seen_with_more_and_more(given):
    pytest.importorskip("galsim")
    found = fusion.fusion(given, replace(fusion.SKY, objects=96))
    assert set(found.scores) == {"aion/fusion image", "aion/fusion spectrum"}
    assert [row[0] for row in found.grids[0].rows] == [
        "photometry",
        "photometry + image",
        "photometry + image + spectrum",
    ]


def test_labels_saved_are_read_off_the_curves():
    """They need ten times the labels for the same: one step to the right on this axis."""
    sizes = np.array([10, 100, 1000, 10_000])
    theirs = np.array([0.4, 0.5, 0.6, 0.7])
    assert zoo.labels_saved(sizes, theirs + 0.1, theirs) == pytest.approx(10, rel=1e-6)
    assert zoo.labels_saved(sizes, theirs, theirs) == pytest.approx(1, rel=1e-6)
    assert zoo.labels_saved(sizes, theirs - 0.1, theirs) == pytest.approx(0.1, rel=1e-6)
    assert np.isnan(zoo.labels_saved(sizes, np.full(4, 0.1), theirs))  # never as good as their worst: no answer


def test_curves_count_the_same_objects():
    draw = np.random.default_rng(0)
    right = {
        name: draw.random((300, 3)) < share
        for name, share in ((f"{zoo.NANO}, linear probe", 0.9), ("supervised CNN", 0.6))
    }
    found = zoo._of_curves(np.array([10, 100, 1000]), right, 1000)
    assert found.scores["euclid/few"].value == pytest.approx(0.3, abs=0.08)
    assert len(found.grids[0].rows) == 2 and len(found.drawn["curves"]["supervised CNN"][0]) == 3


def test_labels_find_what_oddness_does_not():
    """Odd by vote: a third cloud, as dense as the others."""
    draw = np.random.default_rng(0)
    kind = draw.integers(10, size=300)
    x = draw.normal(size=(300, 8)) + 4 * np.eye(10)[kind][:, :8]
    seen = Embedding(x, np.arange(300).astype(str), np.full(300, np.nan), np.full(300, np.nan), "s")
    found = zoo._oddities(seen, draw.normal(size=(300, 4)), np.where(kind == 0, 0.9, 0.1))
    assert found.scores["euclid/labels"].value > 0.2
    assert len(found.grids[0].rows) == 6


def test_patches_are_cut_row_by_row():
    pixels = np.zeros((1, 96, 96))
    pixels[0, 12:24, 24:36] = 1  # second row, third column of eight
    tiles = sky._tiles(pixels).mean(-1)
    assert tiles[0, 10] == 1 and tiles.sum() == 1


def test_the_first_component_is_where_states_differ_most():
    draw = np.random.default_rng(0)
    truth = draw.random((5, 64)) < 0.2
    states = draw.normal(size=(5, 64, 6)) + 5 * truth[..., None] * np.eye(6)[2]
    found = np.corrcoef(sky._first_component(states).ravel(), truth.ravel())[0, 1]
    assert abs(found) > 0.9
