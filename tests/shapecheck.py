"""How strictly the import hook in conftest.py reads signatures. A module, because the hook takes it by name."""

from typing import Any, Self

from beartype import BeartypeConf, FrozenDict, beartype

checked = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,  # an int is a float, as for mypy
        hint_overrides=FrozenDict({Self: Any}),  # the hook decorates methods one by one, without their class
    )
)
