"""Training by a budget, sampling and judging, for the comparisons of quality."""
