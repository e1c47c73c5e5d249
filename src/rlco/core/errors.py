"""Errors a user reads: what was asked, what exists, the likely intent."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown_name(kind: str, name: str, known: Iterable[str]) -> LookupError:
    """Return the error for a name that does not exist, with the nearest one that does.

    Example: ``No recipe named 'push_cub'. Did you mean 'push-cube'? Known: ...``
    """
    names = sorted(known)
    near = difflib.get_close_matches(name.replace("_", "-"), names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return LookupError(f"No {kind} named '{name}'.{hint} Known: {', '.join(names) or 'none'}.")
