"""Evaluation on fixed initial states, the statistics of comparisons, videos and the report."""
