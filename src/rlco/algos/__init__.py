"""Pure tensor functions of reinforcement learning: no network, no device, no logging."""
