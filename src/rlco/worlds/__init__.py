"""Worlds: a task in an engine and a domain, as a vector environment whose environments live in worker processes."""
