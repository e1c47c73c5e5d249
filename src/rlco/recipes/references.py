"""What is meant by a policy's name or folder, and what is known of it before its weights are read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from rlco.policies.checkpoint import (
    CONFIG,
    MODEL,
    STATS,
    base_folder,
    base_policy,
    load_policy,
    read_description,
    read_object,
)
from rlco.policies.contract import AnyPolicy, Preprocessor
from rlco.policies.families import BASE_OF, CONFIGS, AnyInterface, PolicyConfig, empty_policy, family, new_policy
from rlco.policies.tokenizer_file import TOKENIZER_FILE
from rlco.train.pretrain import BASE_CODEC

POLICY = "policy"
"""Sub-folder of a training stage: the checkpoint it ends with."""
UNTRAINED = "untrained:"
"""Prefix of a reference to a policy with random weights."""


def open_policy(reference: str | Path) -> AnyPolicy:
    """Return the policy of a checkpoint folder or a training stage's folder, a shipped base by name, or new weights.

    ``untrained:openvla-tiny`` is the last: random weights, for tests and for training from scratch.
    """
    text = str(reference)
    if text.startswith(UNTRAINED):
        return new_policy(text.removeprefix(UNTRAINED), BASE_CODEC, seed=0)
    folder = policy_folder(reference)
    if folder is not None:
        return load_policy(folder)
    if text in CONFIGS and base_folder(text) is None:
        raise LookupError(
            f"'{text}' has no weights here. '{UNTRAINED}{text}' draws random ones; those of a released policy are made "
            "a folder by rlco policies convert."
        )
    return base_policy(text)


def policy_folder(reference: str | Path) -> Path | None:
    """Return the checkpoint folder that ``reference`` means, or None where it is the name of a base."""
    path = Path(reference)
    if (path / POLICY).is_dir():
        return path / POLICY
    return path if path.is_dir() or len(path.parts) > 1 else None


def policy_config(reference: str | Path) -> PolicyConfig:
    """Return the sizes of a policy; no weights are read or made."""
    return policy_description(reference)[0]


def policy_description(reference: str | Path) -> tuple[PolicyConfig, AnyInterface]:
    """Return everything of a policy but its weights. Raises as ``open_policy``."""
    text = str(reference)
    if (name := text.removeprefix(UNTRAINED)) != text and name in CONFIGS:
        config = CONFIGS[name]()
        return config, family(config.family).interface(config, BASE_CODEC)
    config, interface = read_description(checkpoint_folder(reference))
    return (CONFIGS[text]() if answers_otherwise(reference) else config), interface


def policy_preprocessor(reference: str | Path) -> Preprocessor:
    """Return what says whether a policy can read an observation; no weights are read or made."""
    return empty_policy(*policy_description(reference)).preprocessor


def checkpoint_folder(reference: str | Path) -> Path:
    """Return the folder that a policy is read from. Raises as ``open_policy`` where there is none."""
    folder = policy_folder(reference) or base_folder(str(reference))
    if folder is None or not (folder / MODEL).is_file():
        open_policy(reference)  # says what is missing
    assert folder is not None
    return folder


def answers_otherwise(reference: str | Path) -> bool:
    """Return whether it is the name of a base whose folder describes another: the weights are shared."""
    return policy_folder(reference) is None and str(reference) in BASE_OF


def weights_fingerprint(reference: str | Path) -> str:
    """Return 16 hex digits of the weights and of how they are used; untrained ones are named by their reference.

    The same weights with another prompt, other units or another way to answer are another policy; where they come from
    does not count.
    """
    if str(reference).startswith(UNTRAINED):
        return str(reference)
    folder = checkpoint_folder(reference)
    with (folder / MODEL).open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256")
    config = read_object(folder / CONFIG)
    if answers_otherwise(reference):
        own, base = (CONFIGS[name]().to_json() for name in (str(reference), BASE_OF[str(reference)]))
        # only these: a field that both got later makes no other policy of it
        config |= {name: value for name, value in own.items() if value != base[name]}
    told = config, {**read_object(folder / STATS), "provenance": None}
    digest.update(json.dumps(told, sort_keys=True).encode())
    if (folder / TOKENIZER_FILE).is_file():
        digest.update((folder / TOKENIZER_FILE).read_bytes())
    return digest.hexdigest()[:16]


def require_kind(reference: str | Path, *, family: str | None, horizon: int | None) -> None:
    """Raise ``ValueError`` if a policy is of another family or action horizon than is wanted; None: any."""
    config = policy_config(reference)
    for name, wanted, found in (("family", family, config.family), ("horizon", horizon, config.horizon)):
        if wanted is not None and wanted != found:
            raise ValueError(f"The policy '{reference}' has {name} {found}, the recipe wants {wanted}.")
