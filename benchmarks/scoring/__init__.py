"""The pieces of `bulk.py`: data made once, the ways to score it, what they took, and whether they agree."""
