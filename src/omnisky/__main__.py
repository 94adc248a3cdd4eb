"""`python -m omnisky` is `omnisky`."""

from omnisky.cli import main

main()
