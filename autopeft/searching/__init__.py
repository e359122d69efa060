"""A search, from a plan to a front."""
