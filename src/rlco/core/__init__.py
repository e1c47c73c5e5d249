"""Types, poses, errors, randomness and file safety that every layer shares; imports nothing of ours."""
