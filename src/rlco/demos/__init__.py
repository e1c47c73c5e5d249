"""Demonstrations: a scripted operator, recording in the stand-in, generation in the twin."""
