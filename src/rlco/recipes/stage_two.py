"""What the tasks' recipes spend on Stage II of a flow policy."""

from __future__ import annotations

from rlco.policies.exploration import Exploration
from rlco.policies.pi.exploration import FlowExploration
from rlco.train.rl import RLConfig

STAGE_TWO = RLConfig(
    iterations=30,
    beta=2.0,
    lr=2e-4,
    lr_warmup=40,
    sft_batch_size=64,
    exploration=Exploration(flow=FlowExploration(method="flow-sde")),
)
"""One noisy step in four: success while exploring is near success without noise, and an update costs a quarter."""
