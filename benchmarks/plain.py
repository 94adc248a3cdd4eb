"""The core of a tower as one writes it down first, in PyTorch: what benchmarks/pairs.py sets ours beside."""

from __future__ import annotations

from torch import Tensor, nn

from omnisky.model.transformer import CoreConfig


def blocks_of(config: CoreConfig, weights: dict[str, Tensor]) -> tuple[nn.Module, nn.Module]:
    """Blocks, and the norm after the last."""

    def linear(inside: int, outside: int, name: str) -> nn.Linear:
        made = nn.Linear(inside, outside, device="meta")
        made.weight, made.bias = (nn.Parameter(weights[f"{name}.{kind}"]) for kind in ("weight", "bias"))
        return made

    def norm(name: str) -> nn.LayerNorm:
        made = nn.LayerNorm(config.width, eps=config.eps)
        made.load_state_dict({kind: weights[f"{name}.{kind}"] for kind in ("weight", "bias")})
        return made

    class Attention(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.qkv = linear(config.width, 3 * config.width, f"{name}.qkv")
            self.out = linear(config.width, config.width, f"{name}.out")

        def forward(self, x: Tensor) -> Tensor:
            b, t, width = x.shape
            q, k, v = self.qkv(x).view(b, t, 3, config.heads, -1).permute(2, 0, 3, 1, 4)
            scores = q @ k.transpose(-2, -1) * (width // config.heads) ** -0.5
            return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, width))

    class Block(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.norm1, self.norm2 = norm(f"{name}.attention_norm"), norm(f"{name}.mlp_norm")
            self.attention = Attention(f"{name}.attention")
            self.mlp = nn.Sequential(
                linear(config.width, 4 * config.width, f"{name}.mlp.up"),
                nn.GELU(),
                linear(4 * config.width, config.width, f"{name}.mlp.down"),
            )
            self.scale1 = weights.get(f"{name}.attention_branch.scale", 1.0)
            self.scale2 = weights.get(f"{name}.mlp_branch.scale", 1.0)

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.scale1 * self.attention(self.norm1(x))
            return x + self.scale2 * self.mlp(self.norm2(x))

    return nn.Sequential(*(Block(f"blocks.{i}") for i in range(config.depth))), norm("norm")
