"""An action that is held for several control steps: its tokens say their mean, and count once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlco.core.policy import Batch
from rlco.policies.checkpoint import load_policy, save_policy
from rlco.policies.openvla.config import OpenVlaConfig, openvla_oft_tiny, openvla_tiny
from rlco.policies.openvla.policy import OpenVlaPolicy, held
from rlco.policies.openvla.rehearsal import OpenVlaRehearsal
from rlco.policies.openvla.tokens import to_bins
from rlco.policies.released import Told
from tests.policies.folders import edit_json, go
from tests.policies.openvla_folders import published
from tests.policies.token_policies import CODEC, batch_of, generator, observation, policy_of

ONE = replace(openvla_tiny(), hold=4, horizon=4, executed=4)
CHUNK = replace(openvla_oft_tiny(), hold=2, horizon=8, executed=4)
BOTH = pytest.mark.parametrize("config", [ONE, CHUNK], ids=["autoregressive", "parallel"])


def batch_with_garbage(policy: OpenVlaPolicy) -> Batch:
    """Return samples of which 0, 1 and 2 steps at the end are padding that stands for nothing."""
    batch = batch_of(policy)
    return replace(batch, action=batch.action.masked_fill(batch.is_pad[..., None], 1e3))


def scores_of(policy: OpenVlaPolicy, bins: Tensor, *, to_the_end: bool) -> Tensor:
    """Return the log-probabilities (B, n, vocabulary) at every slot."""
    inputs = policy.preprocessor(observation())
    prompt = policy.network.read(policy.network.see(inputs), inputs)
    return policy.network.logits(policy.outputs(prompt, bins, to_the_end=to_the_end)).log_softmax(-1)


def test_the_mean_leaves_padding_out() -> None:
    action = torch.tensor([[[1.0], [2.0], [3.0], [99.0]], [[5.0], [7.0], [99.0], [99.0]]])
    is_pad = torch.tensor([[False, False, False, True], [False, False, True, True]])
    mean, is_lost = held(action, is_pad, steps=2)
    assert mean.squeeze(-1).tolist() == [[1.5, 3.0], [6.0, 0.0]]
    assert is_lost.tolist() == [[False, False], [False, True]]
    alone, is_lost = held(action, is_pad, steps=1)
    assert torch.equal(alone[~is_pad], action[~is_pad])
    assert torch.equal(is_lost, is_pad)


@torch.no_grad()
@BOTH
def test_the_loss_is_that_of_the_means_tokens_by_hand(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    batch, actions, ends = batch_with_garbage(policy), config.horizon // config.hold, config.head == "autoregressive"
    means = torch.zeros(3, actions, 7)
    for row in range(3):
        for n in range(actions):
            steps = [n * config.hold + k for k in range(config.hold) if n * config.hold + k < config.horizon - row]
            means[row, n] = sum((batch.action[row, t] for t in steps), torch.zeros(7)) / max(len(steps), 1)
    bins = to_bins(CODEC.action.do(means)).flatten(1)
    log_p, loss = scores_of(policy, bins, to_the_end=ends), policy.loss(batch, generator=generator())
    # of the chunk of 4 actions held for 2 steps, 2 steps of padding are one action that counts in no loss
    counted = [7, 7, 7] if ends else [28, 28, 21]
    for row, tokens in enumerate(counted):
        nats = [-log_p[row, n, policy.config.first_action_id + bins[row, n]] for n in range(tokens)]
        if ends:
            nats.append(-log_p[row, 7, policy.interface.tokenizer.end])
        torch.testing.assert_close(loss[row], torch.stack(nats).mean())


@BOTH
def test_a_sample_that_is_all_padding_has_no_loss(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    batch = replace(batch_of(policy), is_pad=torch.ones(3, config.horizon, dtype=torch.bool))
    assert policy.loss(batch, generator=generator()).tolist() == [0, 0, 0]


@torch.no_grad()
@BOTH
def test_a_sample_repeats_each_action_and_counts_it_once(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    actions, executed = config.horizon // config.hold, config.executed // config.hold
    assert policy.noise_shape == (7 * actions,)
    sample = policy.sample(observation(), explore=True, generator=generator())
    assert sample.action.shape == (3, config.horizon, 7)
    groups = sample.action.unflatten(1, (actions, config.hold))
    assert torch.equal(groups, groups[:, :, :1].expand_as(groups))
    plain = policy_of(replace(config, hold=1, horizon=actions, executed=executed))  # the same weights
    once = plain.sample(observation(), explore=True, generator=generator())
    assert torch.equal(groups[:, :, 0], once.action)
    assert torch.equal(sample.log_prob, once.log_prob)

    bins = sample.trace["bins"]
    first = policy.config.first_action_id
    scores = scores_of(policy, bins, to_the_end=False)[..., first : first + 256].log_softmax(-1)
    per_token = scores.gather(-1, bins[..., None]).squeeze(-1)
    torch.testing.assert_close(sample.log_prob, per_token[:, : 7 * executed].sum(1))
    scored = policy.evaluate(observation(), sample.trace)
    torch.testing.assert_close(scored.log_prob, sample.log_prob, rtol=0, atol=1e-5)
    torch.testing.assert_close(scored.entropy, -(scores.exp() * scores).sum(-1)[:, : 7 * executed].sum(1))


def test_the_same_weights_may_hold_their_answers() -> None:
    policy = policy_of(openvla_tiny())
    assert policy.answering_as(ONE).sample(observation(), explore=True, generator=generator()).action.shape[1] == 4


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (ONE, {"hold": 0}, r"hold must be 1 or more, got 0"),
        (ONE, {"hold": 2}, r"horizon must be 2, as hold is, with the autoregressive head, got 4"),
        (ONE, {"executed": 2}, r"executed must be a multiple of hold 4, got 2"),
        (CHUNK, {"horizon": 7}, r"horizon must be a multiple of hold 2, got 7"),
        (CHUNK, {"executed": 3}, r"executed must be a multiple of hold 2, got 3"),
    ],
)
def test_steps_that_no_action_covers_are_refused(config: OpenVlaConfig, change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=rf"OpenVlaConfig\.{message}"):
        replace(config, **change)


def test_a_checkpoint_keeps_it_and_an_older_one_holds_for_one_step(tmp_path: Path) -> None:
    save_policy(tmp_path / "held", policy_of(CHUNK), provenance={})
    assert load_policy(tmp_path / "held").config == CHUNK
    save_policy(tmp_path / "older", policy_of(openvla_tiny()), provenance={})
    edit_json(tmp_path / "older" / "config.json", hold=None)  # takes the field away
    assert load_policy(tmp_path / "older").config == openvla_tiny()


def test_one_action_of_a_chunk_is_as_long_as_it_is_held(tmp_path: Path) -> None:
    made = published(tmp_path)
    chunk = replace(made.config, head="parallel", hold=2, horizon=8, executed=4)
    save_policy(tmp_path / "chunk", made.answering_as(chunk), provenance={})
    one = load_policy(go(tmp_path / "chunk", tmp_path / "one", "rlco", Told(head="autoregressive"))).config
    assert (one.head, one.hold, one.horizon, one.executed) == ("autoregressive", 2, 2, 2)
    back = load_policy(go(tmp_path / "one", tmp_path / "back", "rlco", Told(head="parallel", horizon=8))).config
    assert (back.hold, back.horizon, back.executed) == (2, 8, 8)


def test_the_experience_keeps_no_more_of_a_decision_that_is_held() -> None:
    plain, held_ = (OpenVlaRehearsal(policy_of(c), cameras=1, prompt_tokens=9) for c in (openvla_tiny(), ONE))
    assert plain.decision_bytes == held_.decision_bytes
    assert float(held_.loss(held_.encode(2)).detach()) > 0
    held_.sample(held_.encode(2))
