"""Policy families: networks, losses, samplers, checkpoints. A policy knows no world and no training loop."""
