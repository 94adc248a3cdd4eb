"""Which surveys have seen an object: of a sky that all of them saw, only some are told, as it is with real ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from omnisky.codec.bins import hashed
from omnisky.codec.modalities import DOMAINS
from omnisky.codec.tokens import Tokens
from omnisky.errors import BadValue
from omnisky.observe.sky import held_out
from omnisky.observe.types import Observation

SURVEYS = tuple(sorted({survey for domain in DOMAINS.values() for survey in domain.surveys}))


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Each object keeps the modalities of one group of surveys, drawn by its id; modalities of no survey stay.

    Two surveys that share no group are a pair that nobody who learns from these tokens has seen together. Held-out
    objects keep all, to be asked about any pair.
    """

    groups: tuple[tuple[str, ...], ...]
    """names of surveys, such as (("legacysurvey", "hsc"), ("legacysurvey", "desi"))"""
    share: float = 0.1
    """of the sky that is held out, as `train.config.Run.held_out`"""

    def __post_init__(self) -> None:
        strange = tuple(one for group in self.groups for one in group if one not in SURVEYS)
        if strange or not self.groups:
            raise BadValue("groups of surveys", saw=strange or "none", want=SURVEYS)

    def __call__(self, seen: Observation, tokens: Tokens) -> Tokens:
        """The tokens that these objects keep; others are absent."""
        drawn = (hashed(seen.object_id) >> np.uint64(20)) % np.uint64(len(self.groups))
        whole, kept = held_out(seen, self.share), dict(tokens)
        for name, span in tokens.items():
            if name not in DOMAINS:
                continue
            of = np.array([bool(set(group) & set(DOMAINS[name].surveys)) for group in self.groups])
            stays = torch.from_numpy(of[drawn.astype(np.int64)] | whole)
            kept[name] = replace(span, present=span.there() & stays[:, None])
        return Tokens(kept)
