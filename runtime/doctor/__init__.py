"""Checks of a board, before anything touches its NPU, each with the way to mend what it finds."""
