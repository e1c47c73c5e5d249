"""The token policy OpenVLA: one set of classes from a million parameters to the released 7 billion."""
