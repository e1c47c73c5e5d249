"""Physics engines, each behind the same few methods."""
