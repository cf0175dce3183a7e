"""Evaluation: picture-quality metrics with the definitions the papers used."""
