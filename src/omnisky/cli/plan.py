"""`omnisky plan NAME`: what a training costs before it is run."""

from __future__ import annotations

from pathlib import Path


def plan(name: str = "", *edits: str, gpus: int = 1, gpu: str = "h100", data: Path | None = None) -> None:
    """Say what a recipe needs: parameters, memory by part, work and time a step: omnisky plan aion-xlarge --gpus 64.

    Parameters
    ----------
    name
        The recipe (see `omnisky recipes`); without one, a line for each of them.
    edits
        Changes as key=value: batch=1024 remat=true shard=true.
    gpus
        How many; a batch is shared among them.
    gpu
        a100, h100, h200, mi300x, l40s, rtx4090.
    data
        Observations whose first object says how many tokens there are; without, sequences are as long as they may be.
    """
    from omnisky.codec.tokens import encode_all
    from omnisky.observe.read import read
    from omnisky.recipes import recipe
    from omnisky.recipes.sizes import HEADINGS
    from omnisky.recipes.sizes import rows as rows_of_all
    from omnisky.train.config import edit
    from omnisky.train.plan import SHARE
    from omnisky.train.plan import plan as worked_out
    from omnisky.watch import show_table

    if not name:
        show_table(HEADINGS, rows_of_all())
        return
    run = edit(recipe(name), edits)
    tokens = None if data is None else encode_all(run.codecs, read(data).take([0]))
    lengths = None if tokens is None else {span: len(tokens[span]) for span in tokens}
    found = worked_out(run, gpus=gpus, gpu=gpu, lengths=lengths)
    rows = []
    for part in found.parts:
        held = 4 * part.parameters, 4 * part.learning, part.moments
        acts = found.objects * part.kept, found.objects * part.kept_remat
        work = run.batch * (part.forward + part.backward)
        rows.append((part.name, f"{part.parameters / 1e6:,.1f}", *map(_gb, (*held, *acts)), _few(work / 1e12)))
    show_table(("part", "10⁶", "weights", "grads", "AdamW", "acts", "remat", "TFLOP"), rows)
    print(
        "millions of parameters; GB where nothing is shared out, activations as they are and with remat; a step's work"
    )
    memory = []
    for how, state in (("on every card", found.state), ("shard=true", found.state_in_pieces)):
        for remat in (False, True):
            total = state + found.activations(remat)
            fits = "yes" if total < found.card.memory_gb * 1e9 else "no"
            memory.append(
                (how, "yes" if remat else "no", _gb(state), _gb(total), f"{fits}, of {found.card.memory_gb:g}")
            )
    show_table(("weights, gradients, moments", "remat", "GB of them", "GB in all", "fits a card"), memory)
    print(f"{found.parameters:,} parameters; {run.batch} objects a step, {found.objects} at a time on each {gpu}")
    if not found.flops:
        print("work and activations are counted for transformers only: this model is none")
        return
    hours = found.seconds * run.steps / 3600
    print(
        f"{_few(found.flops / 1e12)} TFLOP and {found.seconds:.3g} s a step at {SHARE:.0%} of the card's peak, "
        f"{hours:,.3g} h for {run.steps:,} steps; data and messages between cards not counted"
    )


def _gb(count: float) -> str:
    return f"{count / 1e9:.2f}" if count < 1e11 else f"{count / 1e9:.0f}"


def _few(count: float) -> str:
    return f"{count:,.0f}" if count >= 100 else f"{count:.3g}"
