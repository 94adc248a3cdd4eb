"""Omnisky side by side with what came before it: `make bench`, or `python -m benchmarks [name …]`."""
