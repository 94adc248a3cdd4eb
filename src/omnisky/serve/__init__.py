"""Let others look: the explorer, and what serves it."""
