"""Pixels and time: reading, converting and writing clips and pictures with PyAV."""
