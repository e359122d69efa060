"""The API, version 1: one file for each group of its paths."""
