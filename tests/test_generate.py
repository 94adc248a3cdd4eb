"""Asks for n, gets n, or raises; and with the cache says what it would say without."""

import pytest
import torch
from small import KINDS, galaxies, model

from omnisky.codec.tokens import Span, Tokens
from omnisky.errors import BadValue, ContextOverflow, MissingModality
from omnisky.generate import generate
from omnisky.model.autoregressive import AutoregressiveConfig
from omnisky.model.junction import Modality

SPECTRA = Modality(name="spectra", width=8, position_width=8)
WORDS = Modality(name="words", width=5, vocabulary=5)


def prompt(net, n: int = 2, upto: int = 6) -> Tokens:
    return net.codecs[0].encode(galaxies(n)).map(lambda t: t[:, :upto])


def test_n_tokens_are_made_and_the_prompt_is_kept():
    net = model()
    start = prompt(net)
    made = generate(net, start, "images", 10)["images"]
    assert made.values.shape == (2, 16, 48)
    assert made.positions[0].tolist() == list(range(16))
    torch.testing.assert_close(made.values[:, :6], start["images"].values)


def test_the_cache_changes_nothing():
    net = model()
    start = prompt(net)
    made = generate(net, start, "images", 4)
    with torch.no_grad():
        for i in range(6, 10):
            said = net.predict(made.map(lambda t, i=i: t[:, : i + 1]))["images"][:, -1]
            torch.testing.assert_close(made["images"].values[:, i], said, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_one_object_is_enough(kind):
    net = model(kind)
    assert generate(net, prompt(net, n=1, upto=1), "images", 3)["images"].values.shape == (1, 4, 48)


def test_noise_comes_from_the_generator_alone():
    net = model()

    def draw(seed: int, temperature: float) -> torch.Tensor:
        once = torch.Generator().manual_seed(seed)
        return generate(net, prompt(net), "images", 3, temperature=temperature, generator=once)["images"].values

    torch.testing.assert_close(draw(0, 0.5), draw(0, 0.5))
    assert (draw(0, 0.5) - draw(1, 0.5)).abs().max() > 0.1
    torch.testing.assert_close(draw(0, 0.0), draw(1, 0.0))


def test_a_later_modality_follows_from_an_earlier_one():
    net = model(others=(SPECTRA,))
    where = torch.linspace(0, 1, 2 * 3 * 8).reshape(2, 3, 8)
    made = generate(net, prompt(net), "spectra", 3, positions=where)
    assert made["spectra"].values.shape == (2, 3, 8)
    torch.testing.assert_close(made["spectra"].positions, where)


def test_ids_are_drawn_from_what_the_model_says():
    net = model(others=(WORDS,))
    likeliest = generate(net, prompt(net), "words", 1)["words"].values
    state = net.states(prompt(net))[:, -1:]
    torch.testing.assert_close(likeliest, net.junction.leave("words", state).argmax(-1))
    many = prompt(net, n=1).map(lambda t: t.expand(4000, *t.shape[1:]))
    once = torch.Generator().manual_seed(0)
    drawn = generate(net, many, "words", 1, temperature=1.0, generator=once)["words"].values[:, 0]
    want = net.junction.leave("words", net.states(prompt(net, n=1))[:, -1:]).softmax(-1)[0, 0]
    got = torch.bincount(drawn, minlength=5) / 4000
    assert (got - want).abs().max() < 0.04  # 5 σ of a share of 4000 draws


def test_what_cannot_be_done_is_refused():
    net = model(others=(SPECTRA,))
    start = prompt(net)
    with pytest.raises(BadValue, match="count"):
        generate(net, start, "images", 0)
    with pytest.raises(ContextOverflow):
        generate(net, start, "images", 59)  # 6 + 59 > 64 positions
    with pytest.raises(MissingModality, match="does not know"):
        generate(net, start, "sound", 1)
    with pytest.raises(MissingModality, match="nothing to start"):
        generate(net, Tokens({}), "images", 1)
    with pytest.raises(BadValue, match="measured positions"):
        generate(net, start, "spectra", 1)
    with pytest.raises(BadValue, match="comes before"):
        spectrum = Span(torch.zeros(2, 1, 8), torch.zeros(2, 1, 8))
        generate(net, start | {"spectra": spectrum}, "images", 1)
    with pytest.raises(MissingModality, match="absent"):
        image = start["images"]
        gone = Span(image.values, image.positions, torch.zeros(2, 6, dtype=torch.bool))
        generate(net, Tokens({"images": gone}), "images", 1)


def test_a_trained_model_finishes_a_galaxy_better_than_a_flat_sky():
    """Known truth: round Gaussians. After a short training the unseen outskirts must be closer than their mean."""
    net = model(AutoregressiveConfig)
    tokens = net.codecs[0].encode(galaxies(64))
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(150):
        loss = net.loss(tokens)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    truth = net.codecs[0].encode(galaxies(16, seed=9))
    made = generate(net, truth.map(lambda t: t[:, :4]), "images", 12)["images"].values[:, 4:]
    rest = truth["images"].values[:, 4:]
    flat = rest.mean((0, 1))
    assert (made - rest).square().mean() < 0.8 * (flat - rest).square().mean()
