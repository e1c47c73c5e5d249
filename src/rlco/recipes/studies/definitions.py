"""The studies: what is trained, on what it is measured, and which question that answers."""

from __future__ import annotations

from dataclasses import replace

from rlco.evals.study import Contrast, Place
from rlco.recipes import demo
from rlco.recipes.config import RunConfig
from rlco.recipes.methods import (
    CONTROL,
    COTRAINING,
    NO_REAL_TERM,
    REAL_ONLY,
    RLCO,
    TWIN,
    Reinforced,
    Run,
    Supervised,
    World,
    both,
)
from rlco.recipes.stages import Demonstrations
from rlco.recipes.studies import paper
from rlco.recipes.studies.measure import Learned, Measured, Study
from rlco.tasks import task as task_of
from rlco.train.beta import BetaControl, BetaMode
from rlco.train.rl_config import RLConfig

TASKS = ("pick-place", "push-cube", "open-drawer", "close-drawer")
"""In the order of the paper's Table I."""
BASES = ("pi05-nano", "openvla-nano")
BASE = BASES[0]
"""Of the studies of one policy, where nothing else is asked for."""
PAPERS_TWO = ("pick-place", "open-drawer")
"""The tasks of the paper's own ablations."""
DRAWS = ((0, 0), (1, 1), (2, 2))
"""(reality, seed) of every job: three draws of the stand-in, each with demonstrations and training of its own."""
ALPHAS = (0.1, 0.25, 0.5, 0.75, 0.95)
BETAS = (0.2, 1.0, 5.0)
"""As shares of the task's own beta."""
DEMONSTRATIONS = (10, 20, 50, 100, 200)

SIM_ONLY = Supervised(
    stage="sft-sim",
    name="simulated-only SFT",
    data=lambda run: Demonstrations(sim=run.sim),
    config=lambda job: job.cotraining,
)


def job(task: str, base: str, *, reality: int, seed: int) -> RunConfig:
    """Return a task's job as studies run it: 300 initial states, each four times, and once in the twin."""
    return replace(demo(task, base), num_states=300, repeats=4, twin_repeats=1, reality=reality).with_seed(seed)


def table1(*bases: str) -> Study:
    """Every method on every task; both families where no base is given."""
    figures = tuple(
        Measured(
            place=Place(table=f"{base}{where}", row=method.name, column=task),
            job=job(task, base, reality=reality, seed=seed),
            method=method,
            world=world,
        )
        for base in bases or BASES
        for where, world in {"": World(), ", in the twin": World(domain=TWIN)}.items()
        for reality, seed in DRAWS
        for task in TASKS
        for method in (REAL_ONLY, COTRAINING, CONTROL, RLCO)
    )
    told = [paper.placed(base, paper.TABLE_1[base]) for base in bases or BASES if base in paper.TABLE_1]
    return Study(
        name="table1",
        title="Table I: does RL-Co beat supervised training?",
        question="Every method on the same initial states of four tasks, for a flow and a token policy.",
        figures=figures,
        paper={place: value for columns in told for place, value in columns.items()},
        average=True,
    )


def table2(base: str = BASE) -> Study:
    """Pick-place under every shift."""
    worlds = shifted_worlds("pick-place")
    figures = tuple(
        Measured(
            place=Place(table="pick-place", row=method.name, column=column),
            job=job("pick-place", base, reality=reality, seed=seed),
            method=method,
            world=world,
        )
        for reality, seed in DRAWS
        for column, world in worlds.items()
        for method in (REAL_ONLY, COTRAINING, CONTROL, RLCO)
    )
    return Study(
        name="table2",
        title="Table II: what is left under a distribution shift?",
        question="Pick-place with objects, robot states, light, cameras, clutter and words that training did not have.",
        figures=figures,
        paper=paper.placed("pick-place", paper.TABLE_2) if base == BASE else {},
    )


def fig4(base: str = BASE) -> Study:
    """Alpha of Stage I and beta of Stage II."""
    figures, contrasts = [], []
    for task in PAPERS_TWO:
        config = job(task, base, reality=DRAWS[0][0], seed=DRAWS[0][1])
        alpha = {a: Place(table=f"{task}: alpha", row=COTRAINING.name, column=f"{a:g}") for a in ALPHAS}
        beta = {b: Place(table=f"{task}: beta", row=RLCO.name, column=f"{b * config.rl.beta:g}") for b in BETAS}
        figures += [Measured(place=at, job=config, method=with_alpha(a, config)) for a, at in alpha.items()]
        figures += [Measured(place=at, job=config, method=with_beta(b)) for b, at in beta.items()]
        contrasts += [Contrast(ours=alpha[config.alpha], other=at) for a, at in alpha.items() if a != config.alpha]
        contrasts += [Contrast(ours=beta[1.0], other=at) for b, at in beta.items() if b != 1.0]
    return Study(
        name="fig4",
        title="Figure 4: how much do alpha and beta matter?",
        question="The share of simulated samples in Stage I, and the weight of the real term in Stage II.",
        figures=tuple(figures),
        contrasts=tuple(contrasts),
        x_label="alpha, or beta",
    )


def fig5(base: str = BASE) -> Study:
    """Stage II with and without simulated demonstrations in Stage I."""
    after_real = Reinforced(stage="rl-after-real", name="RL-Co without simulated SFT", after=REAL_ONLY)
    lines = {"with simulated SFT": RLCO, "without": after_real}
    jobs = [job(task, base, reality=0, seed=seed) for task in PAPERS_TWO for seed in range(3)]
    return Study(
        name="fig5",
        title="Figure 5: does Stage II need simulated demonstrations in Stage I?",
        question="Success in the twin while Stage II learns, three seeds.",
        figures=tuple(
            Measured(place=Place(table=c.task, row=method.name, column="stand-in"), job=c, method=method)
            for c in jobs
            for method in lines.values()
        ),
        curves=tuple(
            Learned(line=f"{c.task}, {line}", job=c, method=method) for c in jobs for line, method in lines.items()
        ),
    )


def fig6(base: str = BASE) -> Study:
    """Real supervision removed from either stage, and from both."""
    rows = {
        "full RL-Co": RLCO,
        "no real term in Stage II": NO_REAL_TERM,
        "no real data in Stage I": Reinforced(stage="rl-after-sim", name="RL-Co after simulated SFT", after=SIM_ONLY),
        "no real supervision": Reinforced(
            stage="rl-after-sim-no-real-term",
            name="RL after simulated SFT",
            after=SIM_ONLY,
            config=NO_REAL_TERM.config,
        ),
    }
    return Study(
        name="fig6",
        title="Figure 6: where does real supervision count?",
        question="Real demonstrations taken from Stage I, from Stage II, and from both.",
        figures=tuple(
            Measured(place=Place(table=task, row=row, column=column), job=config, method=method, world=world)
            for task in PAPERS_TWO
            for config in (job(task, base, reality=r, seed=s) for r, s in DRAWS[:2])
            for column, world in {"stand-in": World(), "twin": World(domain=TWIN)}.items()
            for row, method in rows.items()
        ),
        compared="full RL-Co",
        paper={
            Place(table="pick-place", row=row, column="stand-in"): value
            for row, value in paper.FIGURE_6.items()
            if base == BASE
        },
    )


def fig7(base: str = BASE) -> Study:
    """More real demonstrations, three methods."""
    figures = tuple(
        Measured(
            place=Place(table="open-drawer", row=method.name, column=str(count)),
            job=replace(job("open-drawer", base, reality=0, seed=0), real_demonstrations=count),
            method=method,
        )
        for count in DEMONSTRATIONS
        for method in (REAL_ONLY, COTRAINING, RLCO)
    )
    return Study(
        name="fig7",
        title="Figure 7: how many real demonstrations are needed?",
        question="Open-drawer with 10 to 200 real demonstrations.",
        figures=figures,
        # the paper's claim: with 20 as good as the baselines with 200
        contrasts=tuple(
            Contrast(
                ours=Place(table="open-drawer", row=RLCO.name, column="20"),
                other=Place(table="open-drawer", row=method.name, column="200"),
            )
            for method in (REAL_ONLY, COTRAINING)
        ),
        x_label="real demonstrations",
    )


def beyond(base: str = BASE) -> Study:
    """What the paper leaves open: beta that moves, GRPO, and other shifts of every task."""
    rows = (
        RLCO,
        with_beta_mode("cosine"),
        with_beta_mode("constraint"),
        NO_REAL_TERM,
        Reinforced(
            stage="rl-random-look",
            name="RL in randomised twins, no real data in it",
            after=SIM_ONLY,
            config=lambda rl: replace(rl, beta=0.0, random_look=True),
        ),
        Reinforced(
            stage="rl-grpo",
            name="RL-Co with GRPO",
            after=COTRAINING,
            config=grpo,
        ),
    )
    worlds = shifted_worlds("open-drawer")  # push-cube has all of these, too
    return Study(
        name="beyond",
        title="Beyond the paper: other anchors, other algorithms, other shifts",
        question="Beta on a schedule or as a constraint, GRPO for PPO, no real term; under five shifts.",
        figures=tuple(
            Measured(
                place=Place(table=task, row=method.name, column=column),
                job=job(task, base, reality=0, seed=0),
                method=method,
                world=world,
            )
            for task in ("push-cube", "open-drawer")
            for column, world in worlds.items()
            for method in rows
        ),
    )


def shifted_worlds(name: str) -> dict[str, World]:
    """Return column -> the stand-in as it is, and under every shift of a task."""
    return {"in distribution": World()} | {shift: World(shift=shift) for shift in task_of(name).shifts}


def with_alpha(alpha: float, config: RunConfig) -> Supervised:
    """Return Stage I with another share of simulated samples; the job's own is its Stage I."""
    if alpha == config.alpha:
        return COTRAINING

    def mixed(run: Run) -> Demonstrations:
        return replace(both(run), alpha=alpha)

    name = f"{COTRAINING.name}, alpha {alpha:g}"
    return replace(COTRAINING, stage=f"sft-cotrain-alpha{alpha:g}", name=name, data=mixed)


def with_beta(share: float) -> Reinforced:
    """Return Stage II with ``share`` times the job's beta."""
    if share == 1.0:
        return RLCO
    name = f"{RLCO.name}, beta times {share:g}"
    return replace(
        RLCO, stage=f"rl-beta-times{share:g}", name=name, config=lambda rl: replace(rl, beta=share * rl.beta)
    )


def grpo(rl: RLConfig) -> RLConfig:
    """Return Stage II by GRPO for as many environment steps as ``rl`` takes.

    An iteration of the recipes is 48 control steps of every environment; GRPO plays whole episodes, which have 60.
    """
    decisions = rl.decisions * 5 // 4
    return replace(rl, algo="grpo", decisions=decisions, iterations=max(1, rl.iterations * 4 // 5))


def with_beta_mode(mode: BetaMode) -> Reinforced:
    """Return Stage II with a beta that moves."""
    control = BetaControl(beta_mode=mode)
    return replace(
        RLCO, stage=f"rl-beta-{mode}", name=f"RL-Co, beta {mode}", config=lambda rl: replace(rl, beta_control=control)
    )
