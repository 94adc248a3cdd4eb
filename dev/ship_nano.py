"""Put a finished run into the package: weights in bfloat16, the morphology probe fitted on them, and the curve.

    python dev/ship_nano.py runs/astropt-nano ../shared/data/galaxyzoo2_kaggle_rgb

The probe learns from the training objects alone; its accuracy on the held-out ones is printed.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from omnisky import plot
from omnisky.adapt.pool import AttentiveProbe
from omnisky.adapt.score import accuracy
from omnisky.embed import signature, token_states
from omnisky.evaluate.morphology import Task, of_objects
from omnisky.model import store
from omnisky.observe.read import class_names, read
from omnisky.train.devices import keep_memory
from omnisky.watch import counting_bar

ROOT = Path(__file__).resolve().parents[1]
VIEWS = 4
SHIPPED = ROOT / "src" / "omnisky" / "weights" / "omnisky-nano"

CARD = """# omnisky-nano

A small AstroPT that guesses 64-px colour galaxies patch by patch, outwards from the centre, and then their measured
shape ring by ring; what it is given it sees from both sides. Pre-trained from scratch on the training split of 24,759
Galaxy Zoo 2 images (SDSS gri colour; Willett et al. 2013, MNRAS 435, 2835) without labels, by
`omnisky train astropt-nano`; see dev/LOG.md. bfloat16. MIT licence.
`probe/` reads its tokens as five Galaxy Zoo 2 classes. Trained on display-stretched colour: not for photometry.
"""


def main(run: Path, data: Path) -> None:
    keep_memory()
    store.save(store.load(run / "model"), SHIPPED, card=CARD, dtype=torch.bfloat16)
    model, seen = store.load(SHIPPED), read(data)
    task = Task.of(seen)
    signed = signature(model, None, "bf16")
    file = run / f"states-{signed}.npy"  # killed, it goes on; after other weights, it does not
    with counting_bar("embed") as bar:
        states = token_states(model, seen, views=VIEWS, file=file, watch=bar)
    probe = AttentiveProbe(views=VIEWS).fit(states, task.label, task.learn)
    score = accuracy(task.label[task.test], probe.predict(of_objects(states, task.test, VIEWS)))
    file.unlink()
    probe.save(SHIPPED / "probe", signature=signed, names=class_names(data))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    step, loss = np.array([(line["step"], line["loss"]) for line in lines]).T
    judged = np.array([(line["step"], line["held_out"]) for line in lines if "held_out" in line])
    plot.curve(step, loss, ROOT / "docs" / "nano-training.png", held_out=judged)
    print(f"{SHIPPED}: probe accuracy {score} on {int(task.test.sum())} held-out galaxies")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
