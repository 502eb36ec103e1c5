"""rkyolo's runtime: what runs on the board, and on the host to check what will run there."""

__version__ = "0.1.0"
