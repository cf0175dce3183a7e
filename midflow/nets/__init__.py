"""The networks and their weights: pure torch, no device choice, no globals, no losses."""
