"""The flow-matching policy pi0.5: one set of classes from a million parameters to the released size."""
