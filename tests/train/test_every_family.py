"""What training promises, kept by the token policies too: the trainer knows no family."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import tyro

from rlco.data.reader import Dataset
from rlco.policies.contract import Trainable
from rlco.policies.exploration import Exploration
from rlco.policies.families import CONFIGS
from rlco.policies.openvla.exploration import TokenExploration
from rlco.policies.openvla.policy import OpenVlaPolicy
from rlco.policies.pi.exploration import FlowExploration, Method
from rlco.train.compute import ComputeConfig, Precision, identity
from rlco.train.real_term import RealTerm
from rlco.train.rl import run_rl
from rlco.train.rl_config import RLConfig
from rlco.train.sft import SFTConfig, SFTTrainer, run_sft
from tests.train.fakes import CountingWorld, PayingWorld
from tests.train.samples import EVERY_KIND, TOKEN_SIZES, TOKENS, demonstrations, mixture, small, write_pair
from tests.train.stage_two import config, require_gradient_identity, stage

PARTS: tuple[Trainable, ...] = ("all", "expert", "lora")
CRITIC_REACHES_ALL = Exploration(tokens=TokenExploration(value_gradient=True))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    return write_pair(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", TOKENS)
def test_the_real_term_reaches_the_gradient_with_weight_beta(kind: str, part: Trainable) -> None:
    require_gradient_identity(kind, trainable=part)


@pytest.mark.parametrize("changes", [{"algo": "grpo", "decisions": 12}, {"exploration": CRITIC_REACHES_ALL}])
def test_the_real_term_reaches_the_gradient_whatever_else_does(changes: dict[str, Any]) -> None:
    require_gradient_identity("openvla-tiny", **changes)


@pytest.mark.parametrize("temperature", [1.0, 1.6])
@pytest.mark.parametrize("part", PARTS)  # what was seen is kept for the second alone
@pytest.mark.parametrize("kind", TOKENS)
def test_the_first_minibatch_has_ratio_one(kind: str, part: Trainable, temperature: float) -> None:
    drawn = Exploration(tokens=TokenExploration(temperature=temperature))
    two = stage(config(trainable=part, exploration=drawn, lr=1e-3), world=PayingWorld(), kind=kind)
    seen = two.collector.collect(two.policy, decisions=1, generator=two.generator)
    assert ("looks" in seen.trace) == (part == "expert")
    for _ in range(2):
        figures = two.iterate()
        assert figures["rl/first_ratio_error"] < 1e-5
    assert figures["rl/kl"] > 0  # the later minibatches moved


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", TOKENS)
def test_the_value_of_the_rollout_is_the_value_recomputed(kind: str, part: Trainable) -> None:
    two = stage(config(trainable=part), kind=kind)
    experience = two.collector.collect(two.policy, decisions=4, generator=two.generator)
    again = two.policy.evaluate(experience.observation, experience.trace).value
    torch.testing.assert_close(again, experience.rollout.value.flatten(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("changes", [{"trainable": "lora"}, {"trainable": "expert", "ema": 0.9}, {"algo": "grpo"}])
@pytest.mark.parametrize("kind", TOKENS)
def test_stage_two_stopped_after_two_iterations_equals_four_straight(
    tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    cfg = config(decisions=12, **changes)
    straight = stage(cfg, world=PayingWorld(), kind=kind)
    run_rl(straight, folder=tmp_path / "straight", inputs={})

    def stop(step: int, _: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_rl(stage(cfg, world=PayingWorld(), kind=kind), folder=tmp_path / "cut", inputs={}, progress=stop)
    resumed = stage(cfg, world=PayingWorld(), kind=kind)
    run_rl(resumed, folder=tmp_path / "cut", inputs={})
    weights = [two.policy.state_dict() for two in (straight, resumed, stage(cfg, kind=kind))]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not all(torch.equal(value, weights[2][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", TOKENS)
def test_stage_one_stopped_after_two_steps_equals_four_straight(
    pair: tuple[Dataset, Dataset], tmp_path: Path, kind: str, part: Trainable
) -> None:
    cfg = SFTConfig(steps=4, batch_size=8, warmup_steps=1, save_every=1, trainable=part, ema=0.5)

    def stop(step: int, _: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    policies = [small(kind) for _ in range(3)]
    horizon = policies[0].horizon
    run_sft(policies[0], mixture(pair, horizon=horizon), cfg, folder=tmp_path / "straight", inputs={})
    with pytest.raises(KeyboardInterrupt):
        run_sft(policies[1], mixture(pair, horizon=horizon), cfg, folder=tmp_path / "cut", inputs={}, progress=stop)
    run_sft(policies[2], mixture(pair, horizon=horizon), cfg, folder=tmp_path / "cut", inputs={})
    straight, resumed = policies[0].state_dict(), policies[2].state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())
    before = small(kind).state_dict()
    assert not all(torch.equal(value, before[name]) for name, value in policies[0].merged_state().items())


@pytest.mark.parametrize("kind", TOKENS)
def test_without_beta_no_real_demonstrations_are_needed(kind: str) -> None:
    two = stage(config(beta=0.0), world=PayingWorld(), kind=kind)
    assert two.real_term is None
    assert two.iterate()["rl/loss_sft"] == 0.0


@pytest.mark.parametrize("kind", TOKENS)
def test_what_is_kept_of_the_real_frames_changes_the_cost_and_not_the_loss(kind: str) -> None:
    policy = small(kind)
    policy.set_trainable("expert")
    shown = demonstrations(horizon=policy.horizon)
    kept, encoded = (
        RealTerm(policy, shown, batch_size=6, jitter=None, seed=0, cache_bytes=size) for size in (10**9, 0)
    )
    assert (kept.keeps_prefixes, encoded.keeps_prefixes) == (True, False)
    for _ in range(3):
        a, b = (term.loss(generator=torch.Generator().manual_seed(0)) for term in (kept, encoded))
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", TOKENS)
def test_an_entropy_bonus_keeps_the_tokens_apart(kind: str) -> None:
    entropy = []
    for weight in (0.0, 1.0):
        two = stage(config(entropy=weight, beta=0.0, lr=3e-3, iterations=5), world=PayingWorld(), kind=kind)
        entropy.append([two.iterate()["rl/entropy"] for _ in range(5)][-1])
    assert entropy[1] > entropy[0] + 0.05


@pytest.mark.parametrize("kind", TOKENS)
def test_the_critic_has_no_part_in_grpo(kind: str) -> None:
    two = stage(config(algo="grpo", decisions=12), world=PayingWorld(), kind=kind)
    critic = [p.detach().clone() for p in two.policy.critic_parameters()]
    actor = [p.detach().clone() for p in two.actor]
    assert two.iterate()["rl/updates"] > 0
    assert all(torch.equal(a, b) for a, b in zip(critic, two.policy.critic_parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(actor, two.actor, strict=True))


@pytest.mark.parametrize("kind", TOKENS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_while_the_critic_warms_up_its_gradient_moves_no_other_weight(kind: str, precision: Precision) -> None:
    compute = ComputeConfig(precision=precision)
    cfg = config(critic_warmup=1, trainable="all", exploration=CRITIC_REACHES_ALL, compute=compute)
    two = stage(cfg, world=PayingWorld(), kind=kind)
    experience = two.collector.collect(two.policy, decisions=4, generator=two.generator)
    data, _ = two._learnable(experience)
    reached = torch.autograd.grad(two.loss(data).total, two.actor, allow_unused=True)
    assert any(g is not None and g.norm() > 1e-6 for g in reached)  # there is something to hold back
    before = {name: value.clone() for name, value in two.policy.state_dict().items()}
    two.iterate()
    moved = {name for name, value in two.policy.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("value_head.") for name in moved)
    assert not any(two.optimiser.weights()[i].grad is not None for i in range(len(two.actor)))
    two.iterate()
    assert any(
        not name.startswith("value_head.")
        for name, v in two.policy.state_dict().items()
        if not torch.equal(v, before[name])
    )


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", TOKEN_SIZES)
def test_what_no_answer_depends_on_is_not_optimised_and_everything_else_has_a_gradient(
    pair: tuple[Dataset, Dataset], kind: str, part: Trainable
) -> None:
    policy = small(kind)
    assert isinstance(policy, OpenVlaPolicy)
    trainer = SFTTrainer(
        policy, mixture(pair, horizon=policy.horizon), SFTConfig(steps=2, batch_size=4, trainable=part)
    )
    trainer.update(trainer.next_batch())
    unused = {id(p) for p in policy.network.unused_parameters()}
    assert unused
    assert not unused & {id(w) for w in trainer.optimiser.weights()}
    assert all(weight.grad is not None for weight in trainer.optimiser.weights())


def test_the_options_of_token_policies_are_flags() -> None:
    flags = "--temperature 1.6 --value-token mean --value-gradient --value-huber 10 --epochs 1"
    asked = tyro.cli(tyro.conf.OmitArgPrefixes[RLConfig], args=flags.split())
    tokens = TokenExploration(temperature=1.6, value_token="mean", value_gradient=True)
    assert asked == RLConfig(exploration=Exploration(tokens=tokens), value_huber=10.0, epochs=1)


REFUSED = [
    ("pi05-tiny", Exploration(tokens=TokenExploration(temperature=2.0)), r"temperature is 2\.0, but a policy of pi05 "),
    ("pi0-tiny", CRITIC_REACHES_ALL, "value_gradient is True, but a policy of pi0 does not read it: it reads method,"),
    ("openvla-tiny", Exploration(flow=FlowExploration(method="reinflow")), "it reads temperature, value_token, "),
    ("openvla-oft-tiny", Exploration(value_from="expert"), "value_from is expert, but a policy of openvla does not"),
    ("pi05-tiny", Exploration(flow=FlowExploration(noise_level=0.3)), "noise_level is 0.3, but flow-noise does not"),
    (
        "pi05-tiny",
        Exploration(flow=FlowExploration(method="flow-sde", noise_std=(0.1, 0.2), noise_std_start=0.15)),
        r"noise_std is \(0.1, 0.2\), but flow-sde does not read it: it reads noise_level, stochastic_steps, log_prob",
    ),
]


@pytest.mark.parametrize(("kind", "exploration", "message"), REFUSED)
def test_an_option_that_would_have_no_effect_is_refused_in_one_line(
    kind: str, exploration: Exploration, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        RLConfig(exploration=exploration).for_policy(CONFIGS[kind]())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("exploration", [CRITIC_REACHES_ALL, Exploration(value_from="expert")])
def test_options_of_the_critic_are_refused_where_there_is_none(exploration: Exploration) -> None:
    with pytest.raises(ValueError, match="with grpo, which has no critic"):
        config(algo="grpo", exploration=exploration)


@pytest.mark.parametrize("method", get_args(Method))
def test_resolved_flow_values_are_no_options(method: Method) -> None:
    resolved = FlowExploration(method=method).resolved()
    RLConfig(exploration=Exploration(flow=resolved)).for_policy(CONFIGS["pi05-tiny"]())


@pytest.mark.parametrize("kind", ["pi05-tiny", *TOKEN_SIZES])
def test_what_is_a_policys_own_already_stays(kind: str) -> None:
    own = RLConfig().for_policy(CONFIGS[kind]())
    assert own.part == "expert"
    assert own.for_policy(CONFIGS[kind]()) == own


@pytest.mark.parametrize("kind", TOKEN_SIZES)
def test_the_entropy_of_tokens_is_read_whatever_a_flow_would_do(kind: str) -> None:
    assert RLConfig(entropy=0.01).for_policy(CONFIGS[kind]()).entropy == 0.01


@pytest.mark.parametrize("kind", TOKENS)
def test_a_critic_that_read_another_output_is_drawn_anew(kind: str) -> None:
    def critic(**options: Any) -> list[torch.Tensor]:  # noqa: ANN401
        policy = small(kind)
        policy.explore_as(Exploration(tokens=TokenExploration(**options)), seed=3)
        return [p.detach() for p in policy.critic_parameters()]

    before = [p.detach() for p in small(kind).critic_parameters()]
    kept, drawn, again = critic(value_gradient=True), critic(value_token="mean"), critic(value_token="mean")
    assert all(torch.equal(a, b) for a, b in zip(before, kept, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(before, drawn, strict=True) if a.norm())
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))


@pytest.mark.parametrize(
    ("name", "stage_one", "stage_two", "rank"),
    [
        ("pi05-nano", "all", "expert", 16),
        ("openvla-nano", "all", "expert", 32),
        ("openvla-7b", "lora", "lora", 32),
        ("pi05-base", "lora", "lora", 16),
    ],
)
def test_the_size_decides_what_learns_and_the_identity_says_it(
    name: str, stage_one: str, stage_two: str, rank: int
) -> None:
    policy = CONFIGS[name]()
    for cfg, part in ((SFTConfig(), stage_one), (RLConfig(), stage_two)):
        own = cfg.for_policy(policy)
        assert own.part == part
        said = identity(own, policy)
        assert (said["trainable"], said["compute"]["lora"]["lora_rank"]) == (part, rank)
    assert SFTConfig(trainable="expert").for_policy(policy).part == "expert"


def test_a_run_that_was_begun_before_the_youngest_options_keeps_its_identity() -> None:
    policy = CONFIGS["pi05-nano"]()
    lora = {"lora_tower": "expert", "lora_rank": 16, "lora_alpha": 16.0, "lora_mlp": False}
    flow = {"method": "flow-noise", "noise_std": None, "noise_std_start": None, "noise_level": 0.5}
    flow |= {"stochastic_steps": "one", "mean_bound": None, "log_prob": None}
    one, two = (identity(cfg.for_policy(policy), policy) for cfg in (SFTConfig(), RLConfig()))
    assert one["compute"] == two["compute"] == {"lora": lora, "precision": "float32"}
    assert (two["exploration"], two["value_from"]) == (flow, "prefix")
    assert not {"tokens", "value_huber", "crop_area"} & {*one, *two}
    assert identity(RLConfig(value_huber=10.0), policy)["value_huber"] == 10.0


@pytest.mark.parametrize("kind", TOKEN_SIZES)
def test_a_run_of_a_token_policy_always_says_how_it_draws(kind: str) -> None:
    policy = CONFIGS[kind]()
    said = identity(RLConfig().for_policy(policy), policy)
    assert said["tokens"] == {"temperature": 1.0, "value_token": "first", "value_gradient": False}
    assert not {"exploration", "value_from"} & said.keys()
    warm = Exploration(tokens=TokenExploration(temperature=1.6))
    assert identity(RLConfig(exploration=warm), policy)["tokens"]["temperature"] == 1.6


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_stage_two_runs_in_the_plain_world(kind: str) -> None:
    two = stage(config(decisions=12), world=CountingWorld(line_m=0.01), kind=kind)
    assert two.iterate()["rl/episodes"] > 0
