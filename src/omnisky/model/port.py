"""Published checkpoints → ours: one rename table each, no pickle executed."""
