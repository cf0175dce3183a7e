"""Runs the command line: `python -m midflow`."""

from midflow.cli import main

main()
