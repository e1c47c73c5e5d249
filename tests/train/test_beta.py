import math

import pytest

from rlco.train.beta import Beta, BetaControl, BetaMode, ascended


def values(start: float, control: BetaControl, *, iterations: int) -> list[float]:
    """Return beta of every iteration."""
    beta = Beta(start, control, iterations=iterations)
    return [beta.observe(1.0)["rl/beta"] for _ in range(iterations)]


def train(beta: Beta, *, iterations: int) -> tuple[float, float]:
    """Minimise (x - 1)^2 + beta (1 + x^2) exactly in every iteration; return the last beta and its real loss.

    The minimum is at x = 1 / (1 + beta): reinforcement learning wants 1, the real data want 0.
    """
    real_loss = 0.0
    for _ in range(iterations):
        real_loss = 1 + (1 / (1 + beta.value)) ** 2
        beta.observe(real_loss)
    return beta.value, real_loss


def test_a_constant_stays() -> None:
    assert values(0.7, BetaControl(), iterations=4) == [0.7] * 4


def test_the_straight_schedule_goes_from_its_start_to_its_end() -> None:
    control = BetaControl(beta_mode="linear", beta_end=0.0)
    assert values(2.0, control, iterations=5) == pytest.approx([2.0, 1.5, 1.0, 0.5, 0.0])


def test_the_cosine_schedule_is_level_at_both_ends() -> None:
    control = BetaControl(beta_mode="cosine", beta_end=1.0)
    # 1 + (3 - 1) (1 + cos(pi k / 4)) / 2
    half = math.sqrt(0.5)
    assert values(3.0, control, iterations=5) == pytest.approx([3.0, 2 + half, 2.0, 2 - half, 1.0])


def test_one_iteration_uses_the_start() -> None:
    assert values(2.0, BetaControl(beta_mode="linear", beta_end=0.0), iterations=1) == [2.0]


def test_a_step_of_dual_ascent_by_hand() -> None:
    # 2 exp(0.5 (1.2 / 1 - 1)) = 2 exp(0.1)
    moved = ascended(2.0, real_loss=1.2, limit=1.0, rate=0.5, bounds=(0.01, 100.0))
    assert moved == pytest.approx(2 * math.exp(0.1))


def test_a_loss_that_explodes_takes_beta_to_its_bound_and_no_further() -> None:
    assert ascended(2.0, real_loss=1e12, limit=1.0, rate=1.0, bounds=(0.01, 50.0)) == pytest.approx(50.0)


def test_a_binding_constraint_settles_where_the_loss_is_at_its_limit() -> None:
    beta = Beta(0.1, BetaControl(beta_mode="constraint", sft_tolerance=0.1), iterations=400)
    beta.begin(lambda: 1.0)
    last, real_loss = train(beta, iterations=400)
    # 1 + 1 / (1 + beta)^2 = 1.1 where beta = sqrt(10) - 1
    assert real_loss == pytest.approx(1.1, rel=1e-3)
    assert last == pytest.approx(math.sqrt(10) - 1, rel=1e-2)


def test_a_slack_constraint_lets_beta_fall_to_its_floor() -> None:
    control = BetaControl(beta_mode="constraint", sft_tolerance=2.0, beta_range=(0.05, 10.0))
    beta = Beta(1.0, control, iterations=100)
    beta.begin(lambda: 1.0)
    last, real_loss = train(beta, iterations=100)
    assert real_loss < 3.0
    assert last == pytest.approx(0.05)


def test_the_figures_are_those_of_the_iteration_and_not_of_the_next() -> None:
    beta = Beta(2.0, BetaControl(beta_mode="constraint", sft_tolerance=0.25), iterations=9)
    beta.begin(lambda: 4.0)
    figures = beta.observe(6.0)
    assert figures == pytest.approx({"rl/beta": 2.0, "rl/sft_limit": 5.0, "rl/sft_violation": 0.2})
    assert beta.value > 2.0


def test_the_limit_is_measured_once_and_only_where_it_is_used() -> None:
    beta = Beta(1.0, BetaControl(beta_mode="constraint", sft_tolerance=0.5), iterations=9)
    beta.begin(lambda: 2.0)
    beta.begin(lambda: pytest.fail("measured again"))
    assert beta.limit == 3.0
    Beta(1.0, BetaControl(), iterations=9).begin(lambda: pytest.fail("measured for a constant"))


@pytest.mark.parametrize("mode", ["linear", "cosine", "constraint"])
def test_a_resumed_beta_goes_on_as_if_it_had_not_stopped(mode: BetaMode) -> None:
    control = BetaControl(beta_mode=mode)
    straight = Beta(1.0, control, iterations=6)
    straight.begin(lambda: 1.0)
    wanted = [straight.observe(1.0 + 0.1 * i) for i in range(6)]
    first = Beta(1.0, control, iterations=6)
    first.begin(lambda: 1.0)
    for i in range(3):
        first.observe(1.0 + 0.1 * i)
    second = Beta(1.0, control, iterations=6)
    second.load_state_dict(first.state_dict())
    second.begin(lambda: pytest.fail("the limit was measured at another policy"))
    assert [second.observe(1.0 + 0.1 * i) for i in range(3, 6)] == wanted[3:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta_end": -1.0}, "beta_end must be 0 or more, got -1.0"),
        ({"sft_tolerance": -0.1}, "sft_tolerance must be 0 or more"),
        ({"beta_rate": 0.0}, "beta_rate must be above 0"),
        ({"beta_range": (1.0, 0.5)}, "beta_range must be 0 < least < largest"),
    ],
)
def test_bad_numbers_are_refused_when_the_configuration_is_made(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BetaControl(**changes)


def test_an_unknown_mode_is_refused_where_types_are_not_checked() -> None:
    control = BetaControl()
    object.__setattr__(control, "beta_mode", "auto")
    with pytest.raises(ValueError, match=r"BetaControl.beta_mode must be one of constant, linear, .* got 'auto'"):
        control.__post_init__()


def test_a_start_that_no_factor_can_move_is_refused() -> None:
    with pytest.raises(ValueError, match=r"RLConfig.beta must be above 0 with beta_mode 'constraint', got 0"):
        BetaControl(beta_mode="constraint").require(0.0)
    with pytest.raises(ValueError, match=r"RLConfig.beta must be in beta_range \[0.01, 100.0\], got 500"):
        BetaControl(beta_mode="constraint").require(500.0)
    BetaControl().require(0.0)
