"""RL-based sim-real co-training of vision-language-action policies."""

__version__ = "0.1.0"
