"""`python -m adapt`, which is `adapt`."""

from adapt.cli import main

main()
