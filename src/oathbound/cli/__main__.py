"""`python -m oathbound.cli`."""

from oathbound.cli.main import run

run()
