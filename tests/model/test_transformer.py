"""The core: who sees whom, and that faster ways give the same numbers. Random weights, float32 unless said."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from omnisky.errors import BadValue
from omnisky.model import transformer
from omnisky.model.transformer import Branch, Cache, CoreConfig, Stack, causal, prefixed

PLAIN = CoreConfig(width=24, depth=3, heads=3)
CORES = {
    "astropt": PLAIN,
    "specformer": replace(PLAIN, bias=True, activation="gelu"),
    "dinov2": replace(PLAIN, bias=True, activation="gelu", scale_init=0.1, eps=1e-6),
    "aion": replace(PLAIN, hidden=64, activation="silu_gated", norm_heads=True, eps=1e-6),
}
SAME = 2e-6
"""sums of some 50 float32 numbers near 1, taken in another order"""

every_core = pytest.mark.parametrize("config", CORES.values(), ids=CORES)


def stack(config: CoreConfig) -> Stack:
    torch.manual_seed(1)
    made = Stack(config)
    with torch.no_grad():  # norms and scales away from 1, so that a forgotten one shows
        for weight in made.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return made.eval()


def states(objects: int = 2, tokens: int = 7, width: int = PLAIN.width, seed: int = 2) -> torch.Tensor:
    return torch.randn(objects, tokens, width, generator=torch.Generator().manual_seed(seed))


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and float((a - b).detach().abs().max()) < SAME


@every_core
def test_the_future_does_not_leak(config):
    core, x = stack(config), states()
    later = x.clone()
    later[:, 4:] = later[:, 4:].flip(-1)  # a constant more would vanish in the norm
    was, now = core(x, causal=True), core(later, causal=True)
    assert same(was[:, :4], now[:, :4])
    assert not same(was[:, 4:], now[:, 4:])


@every_core
def test_causal_is_the_rule_spelled_out(config):
    core, x = stack(config), states()
    assert same(core(x, causal=True), core(x, causal(x.shape[1])))


@every_core
def test_absent_tokens_are_invisible(config):
    core, x = stack(config), states()
    present = torch.tensor([[1, 1, 0, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1, 1]]).bool()
    attend = present[:, None, :].expand(-1, 7, -1)
    other = torch.where(present[..., None], x, 1000.0)
    assert same(core(x, attend)[present], core(other, attend)[present])
    assert same(core(x, attend)[:1, present[0]], core(x[:1, present[0]]))


@every_core
def test_batch_neighbours_do_not_talk_and_one_object_is_row_0_of_many(config):
    core, x = stack(config), states(objects=3)
    assert same(core(x)[:1], core(x[:1]))
    assert same(core(x)[2:], core(x[2:]))


def test_a_prefix_is_seen_by_all_and_the_rest_is_causal():
    core, x = stack(PLAIN), states(tokens=6)
    rule = prefixed(6, 2)
    assert rule[0].int().tolist() == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 1],
    ]
    assert same(core(x, rule)[:, :2], core(x[:, :2]))
    assert same(core(x, prefixed(6, 0)), core(x, causal=True))
    assert same(core(x, prefixed(6, 6)), core(x))


@every_core
def test_a_cache_gives_what_the_whole_sequence_gives_token_by_token(config):
    core, x = stack(config), states()
    want = core(x, causal=True)
    cache = Cache(config.depth, capacity=7)
    got = [core(x[:, :3], causal=True, cache=cache)]
    got += [core(x[:, i : i + 1], causal=True, cache=cache) for i in range(3, 7)]
    assert cache.length == 7
    assert same(torch.cat(got, 1), want)


def test_several_tokens_at_once_after_a_filled_cache_are_refused():
    core, x, cache = stack(PLAIN), states(), Cache(PLAIN.depth, 7)
    core(x[:, :3], causal=True, cache=cache)
    with pytest.raises(BadValue, match="one at a time"):
        core(x[:, 3:], causal=True, cache=cache)


@every_core
def test_recomputed_activations_give_the_same_gradients_dropout_and_all(config):
    grads = []
    for remat in (False, True):
        core = stack(replace(config, dropout=0.2, drop_path=0.2, remat=remat)).train()
        torch.manual_seed(3)
        x = states().requires_grad_()
        core(x, causal=True).square().sum().backward()
        grads.append(torch.cat([x.grad.flatten(), *(p.grad.flatten() for p in core.parameters())]))
    assert torch.equal(*grads)


def test_stopping_early_runs_just_those_blocks():
    core, x = stack(PLAIN), states()
    assert torch.equal(core(x, blocks=0), x)
    assert same(core(x, blocks=2), core.blocks[1](core.blocks[0](x)))
    assert same(core(x), core.norm(core(x, blocks=3)))
    del core.blocks[2].mlp  # a block that is not asked for is not run
    core(x, blocks=2)
    with pytest.raises(BadValue, match="0 … 3"):
        core(x, blocks=4)


def test_a_context_is_looked_at_where_attend_context_allows():
    core, x, context = stack(replace(PLAIN, cross=True)), states(), states(tokens=5, seed=4)
    allowed = torch.tensor([True, True, False, True, True])
    attend = allowed.expand(1, 7, 5)
    assert same(core(x, context=context, attend_context=attend), core(x, context=context[:, allowed]))
    assert not same(core(x, context=context), core(x, context=context.flip(-1)))


@pytest.mark.parametrize("rule", [None, prefixed(33, 9)], ids=["causal", "prefix"])
def test_plain_bf16_attention_is_the_fused_one_within_bf16(rule):
    """bf16 keeps 8 bits: each product is off by 2⁻⁹ at most, and weights that sum to 1 do not add to that."""
    q, k, v = (states(2, 33, 16, seed).unsqueeze(1).expand(-1, 4, -1, -1) for seed in (5, 6, 7))
    attend = None if rule is None else rule.unsqueeze(1)
    exact = F.scaled_dot_product_attention(q, k, v, attn_mask=attend, is_causal=rule is None)
    ours = transformer._plain_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), attend, rule is None)
    fused = F.scaled_dot_product_attention(
        q.bfloat16(), k.bfloat16(), v.bfloat16(), attn_mask=attend, is_causal=rule is None
    )
    off = float((ours - exact).abs().max())
    assert off < 4 * 2**-8 * float(v.abs().max())
    assert off < 2 * float((fused - exact).abs().max())


def test_plain_attention_is_exact_in_float32():
    q, k, v = (states(2, 9, 16, seed).unsqueeze(1) for seed in (5, 6, 7))
    assert same(
        transformer._plain_attention(q, k, v, None, True), F.scaled_dot_product_attention(q, k, v, is_causal=True)
    )


def test_drop_path_drops_whole_objects_and_keeps_the_mean():
    """Of 4000 objects the share kept is 0.7 ± 0.007 (binomial); 5 σ."""
    branch = Branch(replace(PLAIN, drop_path=0.3)).train()
    torch.manual_seed(0)
    out = branch(torch.zeros(4000, 3, 2), torch.ones(4000, 3, 2))
    assert {round(value, 4) for value in out.unique().tolist()} == {0.0, round(1 / 0.7, 4)}
    assert bool((out == out[:, :1, :1]).all())
    assert abs(float((out > 0).float().mean()) - 0.7) < 0.036
    assert torch.equal(branch.eval()(torch.zeros(2, 3, 2), torch.ones(2, 3, 2)), torch.ones(2, 3, 2))


@pytest.mark.parametrize("wrong", [{"heads": 5}, {"activation": "relu"}])
def test_a_core_that_cannot_be_is_refused(wrong):
    with pytest.raises(BadValue):
        replace(PLAIN, **wrong)


@pytest.mark.parametrize("masked", [False, True])
def test_plain_attention_in_pieces_is_the_same(masked, monkeypatch):
    """With few scores at once, objects are mixed one after the other."""
    torch.manual_seed(4)
    q, k, v = torch.randn(3, 5, 2, 6, 4)
    attend = (torch.rand(5, 1, 6, 6) > 0.3) | torch.eye(6, dtype=torch.bool) if masked else None
    whole = transformer._plain_attention(q, k, v, attend, False)
    monkeypatch.setattr(transformer, "SCORES", 150)
    assert torch.equal(transformer._plain_attention(q, k, v, attend, False), whole)
