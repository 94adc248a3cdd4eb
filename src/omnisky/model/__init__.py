"""TOKENS → HIDDEN STATES, LOSS: one transformer core, one file a model."""
