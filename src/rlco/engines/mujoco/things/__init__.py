"""Things that have names, for pretraining. Drawn from broad ranges; nothing here is read from a task."""
