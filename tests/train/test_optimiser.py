import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from rlco.train.optimiser import MasterAdamW

DATA = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))


def model(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).to(dtype)


def loss(network: nn.Module) -> torch.Tensor:
    out = network(DATA.to(next(network.parameters()).dtype)).float()
    return F.mse_loss(out, DATA.sum(1, keepdim=True))


def master_of(network: nn.Module, *, lr: float) -> MasterAdamW:
    return MasterAdamW([(list(network.parameters()), lr)], betas=(0.9, 0.95), weight_decay=0.01)


def step(network: nn.Module, optimiser: MasterAdamW) -> float:
    optimiser.zero_grad()
    value = loss(network)
    value.backward()
    optimiser.clip(1.0)
    optimiser.step()
    return value.item()


def test_float32_parameters_have_the_bits_of_plain_adamw() -> None:
    ours, plain = model(), model()
    optimiser = master_of(ours, lr=1e-2)
    adamw = torch.optim.AdamW(plain.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.01, fused=True)
    for _ in range(5):
        step(ours, optimiser)
        adamw.zero_grad()
        loss(plain).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        adamw.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), plain.parameters(), strict=True))
    assert optimiser.weights() == list(ours.parameters())


def test_small_steps_reach_bfloat16_weights_through_their_masters_and_stall_without() -> None:
    start = model(torch.bfloat16).float()
    reference, ours, plain = copy.deepcopy(start), model(torch.bfloat16), model(torch.bfloat16)
    with_masters, in_float32 = master_of(ours, lr=2e-5), master_of(reference, lr=2e-5)
    stalling = torch.optim.AdamW(plain.parameters(), lr=2e-5, betas=(0.9, 0.95), weight_decay=0.01)
    for _ in range(300):
        step(reference, in_float32)
        step(ours, with_masters)
        stalling.zero_grad()
        loss(plain).backward()
        stalling.step()

    def moved(network: nn.Module) -> torch.Tensor:
        pairs = zip(network.parameters(), start.parameters(), strict=True)
        return torch.cat([(a.float() - b).detach().flatten() for a, b in pairs])

    wanted = moved(reference)
    masters = torch.cat([w.detach().flatten() for w in with_masters.weights()])
    followed = masters - torch.cat([p.detach().flatten() for p in start.parameters()])
    assert (followed - wanted).norm() < 0.05 * wanted.norm()
    assert (moved(plain) - wanted).norm() > 0.5 * wanted.norm()
    assert loss(reference).item() == pytest.approx(loss(ours).item(), rel=0.01)


def test_a_stop_and_resume_in_bfloat16_equals_going_straight_on() -> None:
    straight, stopped = model(torch.bfloat16), model(torch.bfloat16)
    optimisers = [master_of(straight, lr=1e-4), master_of(stopped, lr=1e-4)]
    for _ in range(10):
        step(straight, optimisers[0])
        step(stopped, optimisers[1])
    resumed = model(torch.bfloat16)
    optimiser = master_of(resumed, lr=1e-4)
    optimiser.load_state_dict(copy.deepcopy(optimisers[1].state_dict()))
    for _ in range(10):
        step(straight, optimisers[0])
        step(resumed, optimiser)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(optimisers[0].weights(), optimiser.weights(), strict=True))


def test_the_norm_is_that_of_float32_gradients_and_other_groups_are_left_alone() -> None:
    network = model(torch.bfloat16)
    first, second = list(network[0].parameters()), list(network[2].parameters())
    optimiser = MasterAdamW([(first, 1e-3), (second, 1e-3)], betas=(0.9, 0.95), weight_decay=0.0)
    loss(network).backward()
    gradients = [p.grad.float() for p in first if p.grad is not None]
    others = [p.grad.float() for p in second if p.grad is not None]
    norm = torch.stack([g.norm() for g in gradients]).norm()
    assert optimiser.clip(1e-3).item() == pytest.approx(norm.item())
    assert torch.stack([w.grad.norm() for w in optimiser.weights(0) if w.grad is not None]).norm() < 1.01e-3
    assert all(w.grad is not None and torch.equal(w.grad, g) for w, g in zip(optimiser.weights(1), others, strict=True))
    assert all(p.grad is None for p in network.parameters())  # never both sets at once


def test_the_rate_of_a_group_can_be_set() -> None:
    network = model(torch.bfloat16)
    optimiser = master_of(network, lr=1e-3)
    before = [p.detach().clone() for p in network.parameters()]
    optimiser.param_groups[0]["lr"] = 0.0
    step(network, optimiser)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_a_state_of_another_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="has 4 parameters of 16 bits, this policy has 0"):
        master_of(model(), lr=1e-3).load_state_dict(master_of(model(torch.bfloat16), lr=1e-3).state_dict())
