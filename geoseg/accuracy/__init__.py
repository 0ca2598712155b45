"""Numbers about maps: plain numpy."""
