"""The paper's own figures: success on a robot [%] (arXiv 2602.12628, Tables I and II, and its text)."""

from __future__ import annotations

from collections.abc import Mapping

from rlco.evals.study import Place
from rlco.recipes.methods import COTRAINING, REAL_ONLY, RLCO

ROWS = (REAL_ONLY.name, COTRAINING.name, RLCO.name)

TABLE_1: Mapping[str, Mapping[str, tuple[float, float, float]]] = {
    "openvla-nano": {
        "pick-place": (6.3, 23.4, 58.8),
        "push-cube": (20.0, 51.7, 68.3),
        "open-drawer": (0.0, 0.0, 35.0),
        "close-drawer": (10.0, 85.0, 95.0),
    },
    "pi05-nano": {
        "pick-place": (71.9, 68.8, 81.3),
        "push-cube": (0.0, 10.0, 18.4),
        "open-drawer": (0.0, 10.0, 65.0),
        "close-drawer": (35.0, 95.0, 100.0),
    },
}
"""Our base -> task -> real-only, co-training, RL-Co of the paper's policy of that family."""

TABLE_2: Mapping[str, tuple[float, float, float]] = {
    "in distribution": (71.9, 68.8, 81.3),
    "unseen-objects": (25.0, 31.3, 56.3),
    "unseen-states": (40.0, 55.0, 70.0),
}

FIGURE_6: Mapping[str, float] = {
    "full RL-Co": 81.3,
    "no real term in Stage II": 40.25,
    "no real data in Stage I": 12.5,
    "no real supervision": 6.25,
}


def placed(table: str, columns: Mapping[str, tuple[float, float, float]]) -> dict[Place, float]:
    """Return the figures of one table where they stand in ours."""
    return {
        Place(table=table, row=row, column=column): value
        for column, values in columns.items()
        for row, value in zip(ROWS, values, strict=True)
    }
