"""LeRobot datasets on disk, mixtures of them, statistics and normalisation."""
