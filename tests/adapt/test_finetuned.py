"""FineTunedModel: any adaptation of any model, out of any form of input; what leaks or does not fit is refused."""

import json

import numpy as np
import pytest
import torch
from pairs import clip
from pairs import sky as pair_sky
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.tree import DecisionTreeClassifier
from small import galaxies, model

from omnisky.adapt import lora
from omnisky.adapt.adaptations import (
    KNN,
    MLP,
    AttentiveMixture,
    AttentivePooling,
    FullFineTuning,
    Linear,
    LoRA,
    MeanPooling,
    MixtureDensity,
    QuantileRegression,
    Segmentation,
)
from omnisky.adapt.finetuned import FineTunedModel
from omnisky.adapt.frozen import Frozen
from omnisky.adapt.rows import Rows, Seen
from omnisky.adapt.tuned import folded
from omnisky.codec.tokens import Span, Tokens, encode_all
from omnisky.embed import embed, token_states
from omnisky.errors import (
    BadPixels,
    BadValue,
    ConfigError,
    CorruptFile,
    MissingModality,
    ObservationError,
    ProvenanceError,
    ResumeMismatch,
    ShapeMismatch,
)
from omnisky.model import store
from omnisky.model.adapted import ANSWER, AdaptedConfig
from omnisky.model.any_to_any import Vocabulary
from omnisky.model.heads import Classes
from omnisky.model.masked import AnyToAnyConfig, gated
from omnisky.observe.types import Observation

SHORT = {"steps": 40, "hidden": 16}
HEADS = {"heads": 2, "hidden": 16, "steps": 40}
TUNED = {"steps": 6, "batch": 8}


@pytest.fixture(scope="module")
def toy():
    seen = galaxies(60)
    return model(), seen, seen["scalars"]["class"].astype(int), seen["image"].flux.mean((1, 2, 3)).astype(float)


@pytest.mark.parametrize(
    "plan",
    [KNN(k=3), Linear(), MLP(**SHORT), MeanPooling(**SHORT), AttentivePooling(**HEADS), LoRA(**TUNED)],
    ids=lambda plan: type(plan).__name__,
)
def test_classes_come_back_from_disk_the_same(toy, plan, tmp_path):
    base, seen, kind, _ = toy
    words = np.array(["round", "flat"])[kind]
    fitted = FineTunedModel(base, plan).fit(seen, words)
    chance = fitted.predict_proba(seen)
    assert fitted.classes_.tolist() == ["flat", "round"]
    np.testing.assert_allclose(chance.sum(1), 1, rtol=1e-5)
    assert set(fitted.predict(seen.take([0]))) <= {"flat", "round"}
    fitted.save(tmp_path / "m")
    again = FineTunedModel.load(tmp_path / "m")
    np.testing.assert_allclose(again.predict_proba(seen), chance, rtol=1e-5, atol=1e-6)
    assert not list(tmp_path.rglob("*.pkl")) and (tmp_path / "m" / "adapter").exists() == isinstance(plan, LoRA)


@pytest.mark.parametrize(
    "plan",
    [
        KNN(k=3),
        Linear(),
        MixtureDensity(**SHORT),
        QuantileRegression(**SHORT),
        AttentiveMixture(**HEADS),
        FullFineTuning(**TUNED),
    ],
    ids=lambda plan: type(plan).__name__,
)
def test_numbers_come_back_from_disk_the_same(toy, plan, tmp_path):
    base, seen, _, bright = toy
    fitted = FineTunedModel(base, plan).fit(seen, bright)
    said = fitted.predict(seen)
    assert said.shape == (60,) and np.isfinite(said).all()
    again = FineTunedModel.load(fitted.save(tmp_path / "m"))
    np.testing.assert_allclose(again.predict(seen), said, rtol=1e-5)
    if isinstance(plan, MixtureDensity | QuantileRegression | AttentiveMixture):
        posterior = again.predict_posterior(seen)
        np.testing.assert_allclose(posterior.chance.sum(1), 1)
        np.testing.assert_allclose(posterior.chance, fitted.predict_posterior(seen).chance, atol=1e-6)
    else:
        with pytest.raises(BadValue, match="predict_posterior"):
            again.predict_posterior(seen)


def test_all_forms_of_the_same_objects_answer_the_same(toy, tmp_path):
    base, seen, kind, _ = toy
    fitted = FineTunedModel(base, Linear()).fit(seen, kind)
    want = fitted.predict_proba(seen)
    found = embed(base, seen)
    found.save(tmp_path / "e.parquet")
    tokens = encode_all(base.codecs, seen)
    for x in (found, found.table(), tmp_path / "e.parquet", str(tmp_path / "e.parquet"), found.vectors, tokens):
        np.testing.assert_allclose(fitted.predict_proba(x), want, atol=1e-5)
    again = FineTunedModel(base, Linear()).fit(found, kind)
    np.testing.assert_allclose(again.predict_proba(seen), want, atol=1e-5)
    heads = FineTunedModel(base, AttentivePooling(**HEADS)).fit(seen, kind)
    states = token_states(base, seen, precision="fp32")
    np.testing.assert_allclose(heads.predict_proba(states), heads.predict_proba(seen), atol=1e-3)
    np.testing.assert_allclose(heads.predict_proba(tokens), heads.predict_proba(seen), atol=1e-3)  # another batch


@pytest.mark.parametrize(
    ("part", "plan"),
    [("image", Linear()), ("image", LoRA(**TUNED)), ("spectrum", AttentivePooling(**HEADS))],
    ids=("image-linear", "image-lora", "spectrum-attentive"),
)
def test_both_towers_of_an_astroclip_and_each_alone(part, plan, tmp_path):
    seen = pair_sky(24)
    red = seen["image"].flux[:, 0].mean((1, 2)).astype(float)
    both = clip()
    alone = getattr(both, part).backbone
    alone.codecs = both.codecs
    for base in (both, alone):
        fitted = FineTunedModel(base, plan, part=part).fit(seen, red)
        again = FineTunedModel.load(fitted.save(tmp_path / type(base).__name__))
        np.testing.assert_allclose(again.predict(seen), fitted.predict(seen), rtol=1e-4)


def test_what_was_embedded_once_is_read_from_the_cache(toy, tmp_path, monkeypatch):
    base, seen, kind, _ = toy
    first = FineTunedModel(base, Linear(), cache=tmp_path).fit(seen, kind)
    want = first.predict_proba(seen)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(base, "vectors", None)  # would now fail
    np.testing.assert_array_equal(
        FineTunedModel(base, Linear(), cache=tmp_path).fit(seen, kind).predict_proba(seen), want
    )
    monkeypatch.undo()
    brighter = seen | {
        "image": type(seen["image"])(flux=seen["image"].flux // 2, bands=seen["image"].bands, unit="display")
    }
    Frozen(base, cache=tmp_path).vectors(Rows.of(brighter))
    assert len(list(tmp_path.iterdir())) == 2  # the same ids, other pixels


def test_maps_out_of_patches(toy):
    base, seen, _, _ = toy
    inside = (seen["image"].flux.astype(float).mean(1) > 60)[:, None]
    fitted = FineTunedModel(base, Segmentation(steps=30, hidden=16)).fit(seen, inside)
    assert fitted.predict(seen).shape == inside.shape
    with pytest.raises(BadValue, match="one label an object"):
        fitted.score(seen, inside)


def test_patches_stand_where_they_are_on_the_sky(toy):
    """Light in one corner changes the raw patch there and, of all patches' tokens, only that one before attention."""
    base, seen, _, _ = toy
    flux = seen["image"].flux.copy()
    flux[:, :, :4, -4:] = 255
    lit = seen | {"image": type(seen["image"])(flux=flux, bands=seen["image"].bands, unit="display")}
    before, after = (Frozen(base, blocks=0).patches(Rows.of(one)) for one in (seen, lit))
    changed = np.abs(after.astype(float) - before).max((0, 3)) > 1e-3
    assert changed[0, 3] and changed.sum() == 1


def on_sky(n: int = 40, cells: int = 8) -> Observation:
    """Objects in clumps 10° apart."""
    seen, place = galaxies(n), np.arange(n) % cells
    return Observation(seen.object_id, 20.0 + 10 * place + 0.001 * np.arange(n), np.zeros(n), seen.parts)


def test_whole_cells_of_sky_are_put_aside():
    rows = Rows.of(on_sky())
    away = rows.aside(0.2, 0, None)
    assert 4 <= away.sum() <= 16
    clump = np.arange(40) % 8
    assert not set(clump[away]) & set(clump[~away])


def test_one_field_is_cut_into_smaller_cells_and_twins_stay_together():
    seen = galaxies(40)
    place = np.arange(40) % 20
    one = Observation(seen.object_id, 150.0 + 0.02 * place, np.full(40, 2.0), seen.parts)
    away = Rows.of(one).aside(0.2, 0, None)
    assert away.any() and not set(place[away]) & set(place[~away])


def test_never_is_the_last_of_a_class_put_aside(toy):
    _, seen, _, _ = toy
    rare = np.array([0] * 58 + [1] * 2)
    for seed in range(20):
        away = Rows.of(seen).aside(0.3, seed, rare)
        assert (rare[~away] == 1).any()


def test_testing_on_what_was_learnt_is_refused_unless_asked_for(toy):
    base, _, _, _ = toy
    seen = on_sky()
    kind = seen["scalars"]["class"].astype(int)
    first, near, far = np.arange(40) % 8 < 4, np.arange(40) < 8, np.arange(40) % 8 >= 4
    fitted = FineTunedModel(base, Linear()).fit(seen.take(first & ~near), kind[first & ~near])
    with pytest.raises(BadValue, match="16 were learnt from"):
        fitted.score(seen.take(first), kind[first])
    with pytest.raises(BadValue, match="0 were learnt from, 4 lie in a cell"):
        fitted.score(seen.take(first & near), kind[first & near])
    assert 0 <= fitted.score(seen.take(first & near), kind[first & near], leaky=True).value <= 1
    assert 0 <= fitted.score(seen.take(far), kind[far]).value <= 1


def test_labels_by_id_find_their_objects(toy):
    _, seen, kind, _ = toy
    some = {name: int(k) for name, k in list(zip(seen.object_id.tolist(), kind, strict=True))[::-1][:40]}
    rows, labels = Rows.of(seen).labelled(some)
    assert rows.places.object_id.tolist() == seen.object_id[20:].tolist()
    np.testing.assert_array_equal(labels, kind[20:])
    with pytest.raises(BadValue, match="labels of nobody here: 9"):
        Rows.of(seen).labelled(some | {"9": 1})
    with pytest.raises(BadValue, match="without ids"):
        Rows.of(np.zeros((60, 3))).labelled(some)


@pytest.mark.parametrize(
    ("plan", "labels", "error", "said"),
    [
        (Linear(), lambda k: np.where(k, np.nan, 1.0), BadPixels, "are NaN"),
        (Linear(), lambda k: np.zeros_like(k), BadValue, "one class"),
        (AttentivePooling(**HEADS), lambda k: np.zeros_like(k), BadValue, "one class"),
        (KNN(k=61), lambda k: k, BadValue, "n_samples=60"),
        (Linear(), lambda k: k[:-1], ShapeMismatch, "60 objects, 59 labels"),
        (Linear(), lambda k: np.array([None, *k[1:]]), BadValue, "mixed or missing"),
        (Linear(), lambda k: np.where(k, "round", ""), BadValue, "are empty"),
        (MixtureDensity(**SHORT), lambda k: k, BadValue, "decimal numbers"),
        (AttentiveMixture(**HEADS), lambda k: np.stack([k, k], 1) + 0.5, ShapeMismatch, "2 numbers"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(toy, plan, labels, error, said):
    base, seen, kind, _ = toy
    with pytest.raises(error, match=said):
        FineTunedModel(base, plan).fit(seen, labels(kind))


def test_input_that_is_something_else_is_refused(toy, tmp_path):
    base, seen, kind, _ = toy
    fitted = FineTunedModel(base, Linear()).fit(seen, kind)
    other = embed(model(seed=1), seen)
    with pytest.raises(ProvenanceError, match="another model"):
        fitted.predict(other)
    with pytest.raises(BadValue, match="no tokens"):
        FineTunedModel(base, AttentivePooling(**HEADS)).fit(embed(base, seen), kind)
    with pytest.raises(BadValue, match="reads anew"):
        FineTunedModel(base, LoRA(**TUNED)).fit(embed(base, seen).vectors, kind)
    with pytest.raises(ShapeMismatch):
        fitted.predict(np.zeros((3, 4, 5)))
    with pytest.raises(ObservationError):
        fitted.predict(["a", "b"])


def test_a_fitted_folder_is_refused_where_its_base_is_another_now(toy, tmp_path):
    base, seen, kind, _ = toy
    store.save(base, tmp_path / "base")
    fitted = FineTunedModel(str(tmp_path / "base"), Linear()).fit(seen, kind)
    fitted.save(tmp_path / "m")
    assert not (tmp_path / "m" / "base").exists()
    np.testing.assert_array_equal(FineTunedModel.load(tmp_path / "m").predict(seen), fitted.predict(seen))
    store.save(model(seed=5), tmp_path / "base")
    with pytest.raises(ProvenanceError, match="another base"):
        FineTunedModel.load(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(json.dumps({"omnisky": 1}))
    with pytest.raises(CorruptFile, match=r"config\.json"):
        FineTunedModel.load(tmp_path / "m")


def test_any_estimator_of_scikit_learn_adapts_and_is_not_pickled(toy, tmp_path):
    base, seen, kind, _ = toy
    fitted = FineTunedModel(base, DecisionTreeClassifier()).fit(seen, kind)
    assert (fitted.predict(seen) == kind).all()
    with pytest.raises(ConfigError, match="without pickle"):
        fitted.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_scikit_learn_validates_and_searches_it():
    x = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
    kind = (x[:, 0] > 0).astype(int)
    found = cross_val_score(FineTunedModel(model(), Linear()), x, kind, cv=3)
    assert found.shape == (3,) and found.min() > 0.5
    search = GridSearchCV(FineTunedModel(model()), {"adaptation": [KNN(k=20), Linear()]}, cv=3).fit(x, kind)
    assert search.best_params_ == {"adaptation": Linear()}


def test_a_killed_fine_tuning_goes_on_to_the_same_answers(toy, tmp_path):
    base, seen, kind, _ = toy
    plan = LoRA(steps=15, batch=8, patience=15)
    whole = FineTunedModel(base, plan).fit(seen, kind).predict_proba(seen)

    def stop(step: int, steps: int) -> None:
        if step == 8 and steps == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FineTunedModel(base, plan).fit(seen, kind, folder=tmp_path / "run", watch=stop)
    again = FineTunedModel(base, plan).fit(seen, kind, folder=tmp_path / "run").predict_proba(seen)
    np.testing.assert_allclose(again, whole, atol=1e-6)
    with pytest.raises(ResumeMismatch):
        FineTunedModel(base, plan).fit(seen, 1 - kind, folder=tmp_path / "run")


def test_whom_it_learnt_from_is_known_again():
    seen = Seen.of(Rows.of(galaxies(5)))
    assert len(seen.ids) == 5 and not len(seen.cells)
    seen.demand_apart(Rows.of(np.zeros((2, 3))))
    with pytest.raises(BadValue, match="5 were learnt from"):
        seen.demand_apart(Rows.of(galaxies(8)))
    x = np.random.default_rng(0).normal(size=(8, 3))
    learnt = Seen.of(Rows.of(x[:5]))
    learnt.demand_apart(Rows.of(x[5:]))
    with pytest.raises(BadValue, match="of 4 objects 1 were learnt from"):
        learnt.demand_apart(Rows.of(x[4:]))


@pytest.mark.parametrize("plan", [Linear(), MixtureDensity(**SHORT)], ids=lambda plan: type(plan).__name__)
def test_calibrated_intervals_hold_what_they_promise(plan, tmp_path):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(600, 16)).astype(np.float32)
    y = x[:, 0].astype(float) + draw.normal(size=600)
    fitted = FineTunedModel(model(), plan).fit(x[:200], y[:200])
    with pytest.raises(BadValue, match="calibrate"):
        fitted.predict_interval(x)
    fitted.calibrate(x[200:400], y[200:400], coverage=0.8)
    low, high = FineTunedModel.load(fitted.save(tmp_path / "m")).predict_interval(x[400:]).T
    assert ((low <= y[400:]) & (y[400:] <= high)).mean() == pytest.approx(0.8, abs=0.12)  # 3 σ of both samples


@pytest.mark.parametrize("plan", [Linear(), MixtureDensity(**SHORT)], ids=lambda plan: type(plan).__name__)
def test_intervals_by_bins_hold_in_each_of_them(plan, tmp_path):
    """Errors are four times as large above 0.5 of the column, which the model does not see."""
    draw, n = np.random.default_rng(0), 1500
    x, column = draw.normal(size=(n, 16)).astype(np.float32), draw.uniform(0, 1, n)
    y = x[:, 0].astype(float) + draw.normal(size=n) * np.where(column > 0.5, 1.0, 0.25)
    fit, other, rest = slice(300), slice(300, 900), slice(900, None)
    fitted = FineTunedModel(model(), plan).fit(x[fit], y[fit])

    def held(**told) -> list[float]:
        low, high = FineTunedModel.load(fitted.save(tmp_path / "m")).predict_interval(x[rest], **told).T
        inside = (low <= y[rest]) & (y[rest] <= high)
        return [inside[column[rest] <= 0.5].mean(), inside[column[rest] > 0.5].mean()]

    fitted.calibrate(x[other], y[other])
    assert held()[1] < 0.84
    with pytest.raises(BadValue, match="without bins"):
        held(by=column[rest])
    fitted.calibrate(x[other], y[other], by=column[other], edges=(0.5,))
    assert held(by=column[rest]) == pytest.approx([0.9, 0.9], abs=0.07)  # 3 σ of both samples
    with pytest.raises(BadValue, match="a number for each object"):
        held()
    with pytest.raises(ShapeMismatch, match="by"):
        held(by=column)


def test_bins_of_a_column_that_the_objects_have(toy, tmp_path):
    base, seen, kind, bright = toy
    fitted = FineTunedModel(base, Linear()).fit(seen.take(slice(20)), bright[:20])
    rest = seen.take(slice(20, 60))
    with pytest.raises(MissingModality, match="mag"):
        fitted.calibrate(rest, bright[20:], by="mag")
    fitted.calibrate(rest, bright[20:], coverage=0.5, by="class", edges=(0.5,))
    again = FineTunedModel.load(fitted.save(tmp_path / "m"))
    by_name = again.predict_interval(seen)
    said = again.predict_posterior(seen) if hasattr(again.estimator_, "predict_posterior") else again.predict(seen)
    np.testing.assert_array_equal(by_name, again.predict_interval(seen, said=said))
    np.testing.assert_array_equal(by_name, again.predict_interval(seen, by=kind))
    margin = np.ptp(by_name, axis=1)
    assert np.ptp(margin[kind == 0]) < 1e-9 < abs(margin[kind == 0][0] - margin[kind == 1][0])
    with pytest.raises(MissingModality, match="class"):
        again.predict_interval(embed(base, seen))
    with pytest.raises(BadValue, match="edges"):
        fitted.calibrate(rest, bright[20:], edges=(0.5,), leaky=True)
    words = FineTunedModel(base, Linear()).fit(seen.take(slice(20)), kind[:20])
    with pytest.raises(BadValue, match="bins"):
        words.calibrate(rest, kind[20:], by="class")


def test_calibrated_chances_keep_the_answer_and_whom_they_learnt_from(toy):
    base, seen, kind, _ = toy
    fitted = FineTunedModel(base, Linear()).fit(seen.take(slice(0, 30)), kind[:30])
    before, said = fitted.predict_proba(seen), fitted.predict(seen)
    fitted.calibrate(seen.take(slice(30, 50)), kind[30:50])
    np.testing.assert_array_equal(fitted.predict(seen), said)
    assert np.abs(fitted.predict_proba(seen) - before).max() > 1e-4
    with pytest.raises(BadValue, match="20 were learnt from"):
        fitted.score(seen.take(slice(30, 60)), kind[30:])
    with pytest.raises(BadValue, match="labels"):
        fitted.calibrate(seen.take(slice(50, 60)), kind[50:] + 7)


def test_a_folded_model_is_one_like_any_other(toy, tmp_path):
    base, seen, kind, _ = toy
    network = FineTunedModel(base, LoRA(steps=6, batch=8, rate=0.05)).fit(seen, kind).estimator_.model_
    plain = folded(network)
    store.save(plain, tmp_path / "m")
    want = Frozen(network.base).vectors(Rows.of(seen))
    np.testing.assert_allclose(embed(store.load(tmp_path / "m"), seen).vectors, want, atol=1e-5)
    assert np.abs(embed(base, seen).vectors - want).max() > 1e-4


@pytest.fixture(scope="module")
def any_to_any():
    """A tiny AION, and tokens of an image, and of a spectrum that every other object lacks."""
    names = {"tok_image": (30, (4, 4)), "tok_spectrum": (20, (7, 1))}
    words = tuple(Vocabulary(name=name, size=size, grid=grid) for name, (size, grid) in names.items())
    base = AnyToAnyConfig(core=gated(2, 16, 2), decoder_depth=1, vocabularies=words).build(0).eval()
    draw, spans = torch.Generator().manual_seed(0), {}
    for name, (size, grid) in names.items():
        ids = torch.randint(size, (30, grid[0] * grid[1]), generator=draw)
        present = torch.ones_like(ids, dtype=torch.bool)
        present[::2] = name == "tok_image"
        spans[name] = Span(ids, torch.arange(ids.shape[1]).expand_as(ids), present)
    return base, Tokens(spans)


def test_tokens_of_an_aion_with_gaps(any_to_any, tmp_path):
    base, tokens = any_to_any
    kind = (tokens["tok_image"].values[:, 0] > 14).numpy()
    for plan in (Linear(), AttentivePooling(**HEADS), MeanPooling(**SHORT)):
        fitted = FineTunedModel(base, plan).fit(tokens, kind)
        again = FineTunedModel.load(fitted.save(tmp_path / type(plan).__name__))
        np.testing.assert_allclose(again.predict_proba(tokens), fitted.predict_proba(tokens), atol=1e-5)
    spectrum = tokens["tok_spectrum"]
    ids = torch.where(spectrum.present, spectrum.values, 3)
    changed = tokens | {"tok_spectrum": Span(ids, spectrum.positions, spectrum.present)}
    np.testing.assert_array_equal(fitted.predict_proba(changed), fitted.predict_proba(tokens))
    assert Frozen(base).patches(Rows.of(tokens)).shape == (30, 4, 4, 16)


def test_only_the_encoder_of_an_aion_is_updated(any_to_any):
    base, tokens = any_to_any
    adapted = AdaptedConfig(base=base.config, width=16, head=Classes(count=2), lora_rank=2).build(0)
    answer = {ANSWER: Span(torch.zeros(30, 1, dtype=torch.long), torch.zeros(30, 1, dtype=torch.long))}
    adapted.loss(tokens | answer).backward()
    updated = lora.updates(adapted.base)
    assert len(updated) == 2 and all(name.startswith("encoder.") for name in updated)
    assert all(layer.lora_b.grad.abs().max() > 0 for layer in updated.values())
