"""What every family asks of a prompt."""

from __future__ import annotations


class PromptTooLongError(ValueError):
    """A cut prompt would lose the task, the state or the place where the action begins, so nothing is cut."""


def require_length(task: str, *, tokens: int, most: int) -> None:
    """Raise ``PromptTooLongError`` where the prompt of ``task`` has more than ``most`` tokens."""
    if tokens > most:
        raise PromptTooLongError(
            f"The prompt of task '{task}' has {tokens} tokens, the policy takes {most}: shorten the task, or use a "
            "policy with a larger prompt_length."
        )
