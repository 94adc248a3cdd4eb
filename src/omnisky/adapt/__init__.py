"""EMBEDDING OR MODEL → ANSWER: probes, pooling heads, honest scores."""
