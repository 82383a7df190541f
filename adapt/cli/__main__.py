"""`python -m adapt.cli`, which is `adapt`."""

from adapt.cli import main

main()
