"""Demonstrations by a person: input devices, the real-time session, what the person sees."""
