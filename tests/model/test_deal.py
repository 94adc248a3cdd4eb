"""Which tokens are shown and which asked for: disjoint, within budget, a function of the seed; spans of sequences."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from omnisky.codec.tokens import Span, Tokens
from omnisky.errors import BadValue, MissingModality
from omnisky.model.any_to_any import FIRST_SENTINEL, SENTINELS, Ends, Vocabulary
from omnisky.model.deal import AionRule, DirichletRule, Focus, PerLogit, PerModality, PerToken, Surprise, spread
from omnisky.model.spans import hide_stretches, merge_stretches

WORDS = FIRST_SENTINEL + SENTINELS
LARGE, SMALL, LIST = "image", "z", "catalog"
NUMBERS_FIRST = DirichletRule(kept_out=0.9, numbers_first=True)
RULES = (
    *(AionRule(), AionRule(kept_out=0.9)),
    *(DirichletRule(), DirichletRule(shown=(0.01, 10.0), asked=(1.0,)), NUMBERS_FIRST),
    DirichletRule(kept_out=0.9, numbers_first=True, focus=(Focus(share=0.5, names=("image", "catalog")),)),
)


@pytest.fixture(scope="module")
def ends() -> Ends:
    words = (
        Vocabulary(name=LARGE, size=50, grid=(6, 6)),
        Vocabulary(name=SMALL, size=9),
        Vocabulary(name="mag", size=9),
        Vocabulary(name=LIST, size=WORDS + 40, longest=12),
    )
    return Ends(words, 8, tied=True, unread=False)


def batch(n: int = 40, seed: int = 0, sequence: bool = True) -> Tokens:
    """Ids that tell their place; a third of the objects has no image, some catalogues are short or not there."""
    draw = torch.Generator().manual_seed(seed)

    def span(length: int, size: int, present=None, first: int = 0) -> Span:
        ids = torch.randint(size, (n, length), generator=draw) + first
        return Span(ids, torch.arange(length).expand(n, -1), present)

    has_image = (torch.rand(n, 1, generator=draw) > 0.3).expand(-1, 36)
    lengths = torch.randint(0, 21, (n, 1), generator=draw)
    spans = {LARGE: span(36, 50, has_image), SMALL: span(1, 9), "mag": span(1, 9)}
    if sequence:
        spans[LIST] = span(20, 40, torch.arange(20)[None] < lengths, WORDS)
    return Tokens(spans)


def keys(slots, row):
    kinds, places = slots.kinds.expand_as(slots.rows)[row], slots.places.expand_as(slots.rows)[row]
    there = slots.there()[row]
    return list(zip(kinds[there].tolist(), places[there].tolist(), strict=True))


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_disjoint_and_within_budget(ends, rule):
    given = batch(sequence=False)
    shown, asked = rule.deal(ends, given, (20, 10), torch.Generator().manual_seed(1))
    whole = ends.lay_out(given)
    for row in range(given.objects):
        a, b, everything = keys(shown, row), keys(asked.slots, row), set(keys(whole, row))
        assert 1 <= len(a) <= 20 and len(b) <= 10
        assert len(set(a) | set(b)) == len(a) + len(b)
        assert set(a) | set(b) <= everything
    assert asked.before is None


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_right_answers_are_those_of_the_object(ends, rule):
    given = batch(sequence=False)
    whole = ends.lay_out(given)
    shown, asked = rule.deal(ends, given, (20, 10), torch.Generator().manual_seed(2))
    for slots in (shown, asked.slots):
        for row in range(given.objects):
            truth = dict(zip(keys(whole, row), whole.rows[row][whole.there()[row]].tolist(), strict=True))
            dealt = dict(zip(keys(slots, row), slots.rows[row][slots.there()[row]].tolist(), strict=True))
            assert all(truth[key] == said for key, said in dealt.items())


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_same_seed_deals_the_same(ends, rule):
    one, two, other = (rule.deal(ends, batch(), (20, 10), torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    assert torch.equal(one[0].rows, two[0].rows) and torch.equal(one[1].slots.rows, two[1].slots.rows)
    assert one[0].rows.shape != other[0].rows.shape or not torch.equal(one[0].rows, other[0].rows)


def test_aions_rule_fills_its_budgets(ends):
    """Where an object has tokens enough; 36 + 1 + 1 of them here."""
    given = batch(200, sequence=False)
    shown, asked = AionRule().deal(ends, given, (20, 10), torch.Generator().manual_seed(5))
    rich = given[LARGE].there().all(1)
    # Where the image is drawn first with less than it has, nothing but two numbers is left to fill up with.
    assert float((shown.there().sum(1)[rich] == 20).float().mean()) > 0.6
    assert bool((asked.slots.there().sum(1)[rich] == 10).all())


def test_kept_out_modalities_show_nothing_more_often(ends):
    given = batch(400, sequence=False)

    def without_image(rule):
        shown, _ = rule.deal(ends, given, (20, 10), torch.Generator().manual_seed(6))
        image = ends.names.index(LARGE)
        return float((~((shown.kinds == image) & shown.there()).any(1)).float().mean())

    assert without_image(AionRule(kept_out=1.0)) > without_image(AionRule()) + 0.1
    alike = (5.0,)  # shows all that is not kept out
    assert without_image(DirichletRule(shown=alike, kept_out=1.0)) > without_image(DirichletRule(shown=alike)) + 0.1


def test_numbers_first(ends):
    """Whatever the image wants, both numbers are shown; kept out, they are asked for."""
    given = batch(100, sequence=False)
    numbers = torch.tensor([ends.names.index(name) for name in (SMALL, "mag")])
    shown, asked = DirichletRule(numbers_first=True).deal(ends, given, (20, 10), torch.Generator().manual_seed(8))
    rich = given[LARGE].there().all(1)
    told = torch.isin(shown.kinds, numbers) & shown.there()
    assert told[rich].sum(1).unique().tolist() == [2] and shown.there().sum(1)[rich].unique().tolist() == [20]
    shown, asked = NUMBERS_FIRST.deal(ends, given, (20, 10), torch.Generator().manual_seed(9))
    told, wanted = (torch.isin(s.kinds, numbers) & s.there() for s in (shown, asked.slots))
    assert bool((told.sum(1) + wanted.sum(1) == 2).all()) and 20 < int(wanted.sum()) < 180


def test_a_focus_leaves_all_others_out(ends):
    """Of objects that have both, two in three have nothing to do with magnitudes; the rest is as ever."""
    given = batch(600)
    focus = Focus(share=2 / 3, names=(LARGE, LIST, SMALL))
    rule = DirichletRule(shown=(0.05,), asked=(1.0,), numbers_first=True, focus=(focus,))
    shown, asked = rule.deal(ends, given, (20, 40), torch.Generator().manual_seed(3))
    mag = ends.names.index("mag")
    told = sum(((s.kinds == mag) & s.there()).any(1) for s in (shown, asked.slots))
    both = given[LARGE].there().all(1) & (given[LIST].there().any(1))
    assert 0.25 < float((told[both] > 0).float().mean()) < 0.42
    assert bool((told[~both] > 0).all())
    for_nobody = (replace(focus, share=0.0), Focus(share=1.0, names=(LARGE, SMALL)))  # nobody has two large ones
    rules = (replace(rule, focus=(one,)) for one in for_nobody)
    rows = [one.deal(ends, given, (20, 40), torch.Generator().manual_seed(3))[0].rows for one in rules]
    assert torch.equal(*rows)


def test_a_large_concentration_shows_all_modalities_alike(ends):
    given = batch(200, sequence=False)

    def share_of_large(alpha):
        shown, _ = DirichletRule(shown=(alpha,)).deal(ends, given, (9, 5), torch.Generator().manual_seed(7))
        image = (shown.kinds == ends.names.index(LARGE)) & shown.there()
        return image.sum(1)[given[LARGE].there().all(1)].float()

    assert share_of_large(100.0).std() < 0.5 * share_of_large(0.05).std()


def test_nothing_left_to_ask(ends):
    one = Tokens({SMALL: Span(torch.zeros(3, 1, dtype=torch.long), torch.zeros(3, 1, dtype=torch.long))})
    with pytest.raises(MissingModality, match="nothing left"):
        AionRule().deal(ends, one, (4, 4), torch.Generator())
    with pytest.raises(MissingModality, match="does not know"):
        spread(ends, Tokens({"x": one[SMALL]}))


@pytest.mark.parametrize("wrong", [{"skew": 0}, {"kept_out": 1.5}])
def test_absurd_rules(wrong):
    with pytest.raises(BadValue):
        AionRule(**wrong)
    with pytest.raises(BadValue):
        DirichletRule(shown=())
    with pytest.raises(BadValue):
        DirichletRule(kept_out=-0.1)
    with pytest.raises(BadValue):
        Focus(share=1.2, names=(LARGE,))


# --- sequences ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_sequence_with_hidden_stretches_can_be_put_together_again(seed):
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(40, (30, 20), generator=draw) + WORDS
    there = torch.rand(ids.shape, generator=draw) > 0.3
    room = torch.full((30,), 100), torch.full((30,), 100)
    found = hide_stretches(ids, there, room, (FIRST_SENTINEL, SENTINELS), draw)
    for row in range(30):
        kept = found.kept.ids[row, : found.kept.lengths[row]]
        before = found.before.ids[row, : found.before.lengths[row]]
        wanted = found.wanted.ids[row, : found.wanted.lengths[row]]
        assert torch.equal(before[1:], wanted[:-1])
        if not len(before):  # nothing was hidden
            assert torch.equal(kept, ids[row][there[row]])
            continue
        told = torch.cat([before[:1], wanted])
        assert int(told[0]) == FIRST_SENTINEL and FIRST_SENTINEL <= int(told[-1]) < WORDS
        assert torch.equal(merge_stretches(kept, told[:-1], (FIRST_SENTINEL, SENTINELS)), ids[row][there[row]])


def test_what_is_shown_and_asked_of_a_sequence_fits():
    draw = torch.Generator().manual_seed(0)
    ids, there = torch.randint(40, (64, 20), generator=draw) + WORDS, torch.ones(64, 20, dtype=torch.bool)
    room = torch.randint(0, 8, (64,), generator=draw), torch.randint(0, 8, (64,), generator=draw)
    found = hide_stretches(ids, there, room, (FIRST_SENTINEL, SENTINELS), draw)
    assert bool((found.kept.lengths <= room[0]).all()) and bool((found.wanted.lengths <= room[1]).all())
    nothing = room[0] == 0
    assert bool((found.kept.lengths[nothing] == 0).all())
    asked = room[1] > 0
    first = found.before.ids[:, 0][asked]
    assert bool(((first >= FIRST_SENTINEL) & (first < WORDS)).all())


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_dealt_sequence_is_told_from_what_came_before(ends, rule):
    shown, asked = rule.deal(ends, batch(), (30, 30), torch.Generator().manual_seed(8))
    kind, first = ends.names.index(LIST), ends.first[LIST]
    assert asked.before is not None
    mine = (asked.slots.kinds == kind) & asked.slots.there()
    assert bool(mine.any()) and bool((asked.before[mine] >= first).all())
    assert bool((asked.before[~mine] == -1).all())
    for slots in (shown, asked.slots):
        for row in range(len(slots.rows)):
            places = [place for k, place in keys(slots, row) if k == kind]
            start = ends.first_place[LIST]
            assert places == list(range(start, start + len(places)))


# --- averages ----------------------------------------------------------------------------------------------------


def test_averages():
    said = (("a", 6.0, 3), ("b", 4.0, 1), ("c", 0.0, 0))
    found = [Surprise(name, torch.tensor(total), count) for name, total, count in said]
    ends = SimpleNamespace(vocabularies={n: SimpleNamespace(size=s) for n, s in (("a", 10), ("b", 100), ("c", 5))})
    assert float(PerToken().of(found, ends)) == pytest.approx(2.5)
    assert float(PerModality().of(found, ends)) == pytest.approx((2 + 4) / 3)
    assert float(PerLogit().of(found, ends)) == pytest.approx((6 * 10 + 4 * 100) / (30 + 100))
