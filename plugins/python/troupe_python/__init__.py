"""Runs an author's Python source. Nothing in here is an interface to that source."""
