import pytest
import torch
import tyro

from rlco.policies.adapters import LoraConfig
from rlco.policies.contract import Trainable
from rlco.policies.families import CONFIGS
from rlco.policies.pi.network import PiNetwork
from rlco.train.compute import ComputeConfig, require_trainable
from rlco.train.rl_config import RLConfig
from rlco.train.sft import SFTConfig
from tests.train.samples import EVERY_KIND, small, tiny


def test_a_policy_is_brought_into_the_form_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(PiNetwork, "compile_layers", lambda network: compiled.append(network))
    policy = tiny()
    asked = ComputeConfig(precision="bfloat16", gradient_checkpointing=True, compile=True)
    asked.prepare(policy, "expert")
    assert policy.network.layer_dtype == torch.bfloat16
    assert policy.network.recompute
    assert not policy.prefix_trains
    assert compiled == [policy.network]


def test_the_default_form_changes_no_weight_and_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PiNetwork, "compile_layers", lambda _: pytest.fail("compiled"))
    policy = tiny()
    ComputeConfig().prepare(policy, "all")
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), tiny().parameters(), strict=True))
    assert all(p.requires_grad for p in policy.parameters())


def test_the_options_are_flags_that_can_be_read() -> None:
    flags = "--trainable lora --lora-tower both --lora-rank 8 --precision bfloat16 --gradient-checkpointing --ema 0.999"
    more = ["--lr-schedule", "constant", "--prefix-cache-gb", "2"]
    kind = tyro.conf.OmitArgPrefixes[tyro.conf.AvoidSubcommands[SFTConfig]]
    asked = tyro.cli(kind, args=[*flags.split(), *more])
    assert asked == SFTConfig(
        trainable="lora",
        ema=0.999,
        lr_schedule="constant",
        compute=ComputeConfig(
            lora=LoraConfig(lora_tower="both", lora_rank=8),
            precision="bfloat16",
            gradient_checkpointing=True,
            prefix_cache_gb=2.0,
        ),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "gpu"}, "ComputeConfig.device must be cpu, cuda or cuda:N, got 'gpu'"),
        ({"device": "cuda:99"}, "ComputeConfig.device is .cuda:99., but"),
        ({"prefix_cache_gb": -1.0}, "ComputeConfig.prefix_cache_gb must be 0 or more, got -1.0"),
    ],
)
def test_bad_values_are_refused_when_the_configuration_is_made(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ComputeConfig(**changes)


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("part", ["all", "expert", "lora"])
def test_a_policy_in_the_form_of_another_part_is_refused(kind: str, part: Trainable) -> None:
    policy, compute = small(kind), ComputeConfig()
    compute.prepare(policy, part)
    compute.require_prepared(policy, part)
    others: list[Trainable] = [other for other in ("all", "expert", "lora") if other != part]
    for other in others:
        with pytest.raises(ValueError, match=f"not set up to train '{other}' in float32"):
            compute.require_prepared(policy, other)


@pytest.mark.parametrize("name", ["pi05-nano", "openvla-nano"])
@pytest.mark.parametrize("kind", [SFTConfig, RLConfig])
def test_options_of_adapters_are_refused_where_none_are_trained(
    kind: type[SFTConfig] | type[RLConfig], name: str
) -> None:
    policy, compute = CONFIGS[name](), ComputeConfig(lora=LoraConfig(lora_rank=5))
    with pytest.raises(ValueError, match="lora_rank is 5, but --trainable expert has no adapters: give lora"):
        kind(trainable="expert", compute=compute).for_policy(policy)
    given = kind(trainable="lora", compute=compute).for_policy(policy)
    assert given.compute.lora.lora_rank == 5
    assert given.for_policy(policy) == given
    usual = kind(trainable="all").for_policy(policy)  # names the adapters that it would have
    assert usual.for_policy(policy) == usual


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(ValueError, match=r"SFTConfig.trainable must be one of all, expert, lora, got 'vision'"):
        require_trainable("SFTConfig", "vision")
