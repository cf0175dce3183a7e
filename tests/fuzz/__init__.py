"""Damaged files through the real commands: material -> mutation -> case -> worker -> run.

`scripts/fuzz --help` says how to run many; `test_fuzz.py` runs a few with every test run.
"""
