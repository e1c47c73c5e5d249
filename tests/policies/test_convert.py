"""Conversion between key layouts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlco.data.normalise import Normaliser
from rlco.policies.checkpoint import load_policy, save_policy
from rlco.policies.convert import digest_line
from rlco.policies.layout import carried_shapes, network_shapes, require_tensors
from rlco.policies.pi.config import CONFIGS, Family
from rlco.policies.pi.interface import Interface
from rlco.policies.pi.layout import TIED, UNUSED
from rlco.policies.pi.policy import PiPolicy
from rlco.policies.pi.released import Chunks, config_of
from rlco.policies.pi.tokenizer import FileTokenizer
from rlco.policies.released import Told
from tests.policies.folders import CODEC, action, config, edit_json, foreign, go, policy, published, write_tokenizer
from tests.policies.released_names import EMBEDDING, released
from tests.policies.test_checkpoint import same_bits

FAMILIES = ("pi05", "pi0")


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in load_file(folder / "model.safetensors").items()}


def rewrite(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Change the weights of a conversion, and let its side folder know of it."""
    save_file(tensors, folder / "model.safetensors")
    (folder / "rlco" / "weights.sha256").write_text(digest_line(folder / "model.safetensors"))


@pytest.fixture(params=FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[PiPolicy, Path]:
    """A policy with a tokenizer of its own, and its checkpoint."""
    tokenizer = FileTokenizer.open(write_tokenizer(tmp_path / "tokenizer.json"))
    plain = Interface.of_family(config(request.param).family, CODEC)
    if request.param == "pi0":  # as released: a z-score
        normalisers = {
            part: Normaliser.mean_std((0.1,) * n, (0.3,) * n, epsilon=1e-6) for part, n in (("state", 8), ("action", 7))
        }
        plain = replace(plain, codec=replace(CODEC, **normalisers))
    found = policy(request.param, interface=replace(plain, tokenizer=tokenizer))
    save_policy(tmp_path / "own", found, provenance={})
    return found, tmp_path / "own"


@pytest.mark.parametrize(("to", "prefix"), [("openpi", ""), ("lerobot", "model.")])
def test_the_released_layouts_have_exactly_the_published_names_and_shapes(
    made: tuple[PiPolicy, Path], tmp_path: Path, to: str, prefix: str
) -> None:
    wanted = {prefix + name: shape for name, shape in released(made[0].config).items()}
    assert shapes(go(made[1], tmp_path / "out", to)) == wanted


@pytest.mark.parametrize("family", FAMILIES)
def test_the_sizes_of_the_released_models_are_read_off_their_shapes(family: Family) -> None:
    base = CONFIGS[f"{family}-base"]()
    table = released(base)
    names = ("horizon", "executed", "denoise_steps", "prompt_length")
    found = config_of(table, Chunks(**{name: getattr(base, name) for name in names}), source="released")
    assert found == base
    require_tensors(table, network_shapes(found) | carried_shapes(found), source="released")


@pytest.mark.parametrize("to", ["openpi", "lerobot"])
def test_there_and_back_is_bit_for_bit(made: tuple[PiPolicy, Path], tmp_path: Path, to: str) -> None:
    first, own = made
    back = load_policy(go(go(own, tmp_path / "there", to), tmp_path / "back", "rlco"))
    assert (back.config, back.interface) == (first.config, first.interface)
    assert same_bits(back, first)
    assert torch.equal(action(back), action(first))


@pytest.mark.parametrize("to", ["openpi", "lerobot"])
def test_a_folder_of_the_other_program_alone_gives_the_same_policy(
    made: tuple[PiPolicy, Path], tmp_path: Path, to: str
) -> None:
    first, own = made
    there = foreign(own, tmp_path / "there", to)
    told = Told(tokenizer=tmp_path / "tokenizer.json", executed=first.executed, horizon=first.horizon)
    back = load_policy(go(there, tmp_path / "back", "rlco", told))
    sizes = {"denoise_steps": first.config.denoise_steps, "prompt_length": first.config.prompt_length}
    assert replace(back.config, **sizes, model_state_dim=first.config.model_state_dim) == first.config
    assert all(
        torch.equal(a, b)
        for a, b in zip(back.network.state_dict().values(), first.network.state_dict().values(), strict=True)
    )
    same = replace(back.interface, codec=first.codec)
    assert same == first.interface
    assert back.codec.state.centred == (first.config.family == "pi0")
    pairs = ((back.codec.state, first.codec.state), (back.codec.action, first.codec.action))
    for found, wanted in pairs:
        # lerobot keeps its statistics in 32 bits
        assert found.low == pytest.approx(wanted.low, abs=1e-7)
        assert found.high == pytest.approx(wanted.high, abs=1e-7)
    if to == "lerobot":
        torch.testing.assert_close(action(back), action(first), rtol=0, atol=2e-6)


def test_the_unused_head_is_carried_through_and_zero_where_it_was_never(
    made: tuple[PiPolicy, Path], tmp_path: Path
) -> None:
    there = go(made[1], tmp_path / "there", "openpi")
    tensors = load_file(there / "model.safetensors")
    assert not tensors[UNUSED].any()
    tensors[UNUSED] = torch.randn(tensors[UNUSED].shape).bfloat16()
    rewrite(there, tensors)
    ours = go(there, tmp_path / "ours", "rlco")
    assert same_bits(load_policy(ours), made[0])
    again = load_file(go(ours, tmp_path / "again", "lerobot") / "model.safetensors")
    assert again.keys() == {f"model.{name}" for name in tensors}
    assert all(torch.equal(again[f"model.{name}"], value) for name, value in tensors.items())
    assert again[f"model.{UNUSED}"].dtype == torch.bfloat16
    assert json.loads((tmp_path / "again" / "config.json").read_text())["dtype"] == "float32"  # of what is used


def test_the_word_embedding_may_be_there_twice_but_not_differ(made: tuple[PiPolicy, Path], tmp_path: Path) -> None:
    there = go(made[1], tmp_path / "there", "openpi")
    tensors = load_file(there / "model.safetensors")
    for name, extra in (
        ("both", {TIED: tensors[EMBEDDING].clone()}),
        ("other", {TIED: tensors[EMBEDDING] + 1}),
        ("only", {TIED: tensors[EMBEDDING].clone(), EMBEDDING: None}),
    ):
        kept = {k: v for k, v in {**tensors, **extra}.items() if v is not None}
        rewrite(there, kept)
        if name == "other":
            with pytest.raises(ValueError, match="two word embeddings that differ"):
                go(there, tmp_path / name, "rlco")
        else:
            assert same_bits(load_policy(go(there, tmp_path / name, "rlco")), made[0])


@pytest.mark.parametrize("to", ["openpi", "lerobot"])
def test_every_wrong_tensor_of_a_released_file_is_named(made: tuple[PiPolicy, Path], tmp_path: Path, to: str) -> None:
    there = foreign(made[1], tmp_path / "there", to)
    prefix = "model." if to == "lerobot" else ""
    tensors = load_file(there / "model.safetensors")
    tensors.pop(f"{prefix}action_in_proj.bias")
    tensors[f"{prefix}action_out_proj.bias"] = torch.zeros(3)
    tensors[f"{prefix}lora"] = torch.zeros(3)
    if prefix:  # the same name twice, with and without the layout's prefix
        tensors["time_mlp_in.bias"] = torch.zeros(3)
    save_file(tensors, there / "model.safetensors")
    told = Told(tokenizer=tmp_path / "tokenizer.json", horizon=8)
    twice = r"unexpected time_mlp_in\.bias \(without 'model\.'\); " if prefix else ""
    message = rf"missing action_in_proj\.bias; unexpected lora; {twice}action_out_proj\.bias has"
    with pytest.raises(ValueError, match=message):
        go(there, tmp_path / "back", "rlco", told)
    assert not (tmp_path / "back").exists()


def test_a_lerobot_folder_has_the_files_and_fields_that_lerobot_reads(
    made: tuple[PiPolicy, Path], tmp_path: Path
) -> None:
    c = made[0].config
    there = go(made[1], tmp_path / "there", "lerobot")
    mode = {"pi05": "QUANTILES", "pi0": "MEAN_STD"}[c.family]
    values = json.loads((there / "config.json").read_text())
    assert values["type"] == c.family
    assert (values["chunk_size"], values["n_action_steps"]) == (8, 4)
    assert values["output_features"] == {"action": {"type": "ACTION", "shape": [7]}}
    assert values["input_features"] == {
        "observation.state": {"type": "STATE", "shape": [8]},
        "observation.images.base_0_rgb": {"type": "VISUAL", "shape": [3, 32, 32]},
    }
    assert values["normalization_mapping"] == {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode}
    steps = json.loads((there / "policy_preprocessor.json").read_text())["steps"]
    names = [step["registry_name"] for step in steps]
    words = {"pi05": "pi05_prepare_state_tokenizer_processor_step", "pi0": "pi0_new_line_processor"}[c.family]
    assert names == ["rename_observations_processor", "to_batch_processor", "normalizer_processor", words,
                     "tokenizer_processor", "device_processor"]  # fmt: skip
    assert steps[0]["config"]["rename_map"] == {"observation.images.front": "observation.images.base_0_rgb"}
    assert steps[2]["state_file"] == "policy_preprocessor_step_2_normalizer_processor.safetensors"
    stats = load_file(there / steps[2]["state_file"])
    assert {f"{f}.{s}" for f in ("observation.state", "action") for s in ("q01", "q99", "mean", "std")} == stats.keys()
    after = json.loads((there / "policy_postprocessor.json").read_text())["steps"]
    assert after[0]["registry_name"] == "unnormalizer_processor"
    assert (there / after[0]["state_file"]).is_file()


def test_what_lerobot_computes_from_its_statistics_is_what_we_compute(
    made: tuple[PiPolicy, Path], tmp_path: Path
) -> None:
    there = go(made[1], tmp_path / "there", "lerobot")
    stats = load_file(there / "policy_preprocessor_step_2_normalizer_processor.safetensors")
    x = torch.randn(5, 8)
    if made[0].config.family == "pi0":
        theirs = (x - stats["observation.state.mean"]) / (stats["observation.state.std"] + 1e-8)
    else:
        low, high = stats["observation.state.q01"], stats["observation.state.q99"]
        theirs = 2.0 * (x - low) / (high - low) - 1.0
    torch.testing.assert_close(made[0].codec.state.do(x), theirs, rtol=1e-5, atol=2e-6)


def test_what_openpi_computes_from_its_statistics_is_what_we_compute(
    made: tuple[PiPolicy, Path], tmp_path: Path
) -> None:
    there = go(made[1], tmp_path / "there", "openpi")
    stats = json.loads((there / "assets" / "rlco" / "norm_stats.json").read_text())["norm_stats"]["actions"]
    figures = {name: torch.tensor(values, dtype=torch.float64) for name, values in stats.items()}
    x = torch.randn(5, 7, dtype=torch.float64)
    quantile = (x - figures["q01"]) / (figures["q99"] - figures["q01"] + 1e-6) * 2 - 1
    score = (x - figures["mean"]) / (figures["std"] + 1e-6)
    for theirs in (quantile, score):
        torch.testing.assert_close(made[0].codec.action.do(x), theirs)


def test_the_prompt_the_cameras_and_the_statistics_may_be_said(made: tuple[PiPolicy, Path], tmp_path: Path) -> None:
    stats = go(made[1], tmp_path / "there", "openpi") / "assets" / "rlco" / "norm_stats.json"
    told = Told(
        prompt="plain",
        camera={"left_wrist_0_rgb": "wrist", "base_0_rgb": "front"},
        stats=stats,
        normalisation="mean-std",
        executed=2,
        state_clip=1.5,
    )
    found = load_policy(go(made[1], tmp_path / "other", "rlco", told))
    assert found.interface.prompt == "plain"
    assert list(found.interface.cameras.items()) == [("base_0_rgb", "front"), ("left_wrist_0_rgb", "wrist")]
    assert found.codec.state.centred
    assert found.executed == 2
    assert found.codec.state_clip == 1.5


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (Told(), r"has no tokenizer\.json: give PaliGemma's \(--tokenizer FILE\)"),
        (Told(family="pi0", tokenizer=Path("T")), "is of family pi05, not pi0"),
        (Told(horizon=50, tokenizer=Path("T")), "has action horizon 8, not 50"),
        (Told(executed=9, tokenizer=Path("T")), r"executed must be in \[1, 8\], got 9"),
        (Told(stats=Path("missing.json"), tokenizer=Path("T")), "no statistics at 'missing.json'"),
        (Told(prompt="pi06", tokenizer=Path("T")), "No prompt style named 'pi06'"),
        (Told(camera={"base": "front"}, tokenizer=Path("T")), "No camera slot named 'base'"),
        (
            Told(camera={"base_0_rgb": "front", "left_wrist_0_rgb": "wrist"}, tokenizer=Path("T")),
            "was trained with 1 cameras, 2 are given",
        ),
        (Told(tokenizer=Path("p.model")), "is a SentencePiece model"),
    ],
)
def test_what_does_not_fit_a_released_checkpoint_is_named(tmp_path: Path, told: Told, message: str) -> None:
    save_policy(tmp_path / "own", published("pi05"), provenance={})
    there = foreign(tmp_path / "own", tmp_path / "there", "lerobot")
    if told.tokenizer == Path("T"):
        told = replace(told, tokenizer=write_tokenizer(tmp_path / "tokenizer.json"))
    with pytest.raises((ValueError, LookupError), match=message):
        go(there, tmp_path / "out", "rlco", told)
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_not_complete_or_not_ours_to_read_is_named(tmp_path: Path) -> None:
    save_policy(tmp_path / "own", published("pi05"), provenance={})
    with pytest.raises(FileNotFoundError, match="no checkpoint folder"):
        go(tmp_path / "nothing", tmp_path / "out", "rlco")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors' does not exist"):
        go(tmp_path / "empty", tmp_path / "out", "rlco")
    save_file({"weight": torch.zeros(1)}, tmp_path / "empty" / "model.safetensors")
    with pytest.raises(ValueError, match=r"no layout that is known \(rlco, openpi, lerobot, openvla\).*weight"):
        go(tmp_path / "empty", tmp_path / "out", "rlco")
    save_file({"paligemma_with_expert.x": torch.zeros(1)}, tmp_path / "empty" / "model.safetensors")
    with pytest.raises(ValueError, match=r"neither pi0.5"):
        go(tmp_path / "empty", tmp_path / "out", "rlco")
    with pytest.raises(LookupError, match="No layout named 'hf'"):
        go(tmp_path / "own", tmp_path / "out", "hf")
    with pytest.raises(ValueError, match="exists already"):
        go(tmp_path / "own", tmp_path / "empty", "openpi")
    assert not list(tmp_path.glob(".*")), "something was written before the mistake was noticed"
    openpi = foreign(tmp_path / "own", tmp_path / "there", "openpi")
    edit_json(openpi / "config.json", action_horizon=None)
    with pytest.raises(ValueError, match=r"does not say its action horizon: give it \(--horizon"):
        go(openpi, tmp_path / "out", "rlco")
    (openpi / "assets" / "rlco" / "norm_stats.json").unlink()
    tokenizer = write_tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(ValueError, match=r"needs one file of statistics, it has none\. Give one \(--stats FILE\)"):
        go(openpi, tmp_path / "out", "rlco", Told(horizon=8, tokenizer=tokenizer))
    lerobot = foreign(tmp_path / "own", tmp_path / "lerobot", "lerobot")
    edit_json(lerobot / "config.json", type="pi0")
    with pytest.raises(ValueError, match="says that it is of type 'pi0', its tensors are those of pi05"):
        go(lerobot, tmp_path / "out", "rlco", Told(tokenizer=tokenizer))
    assert not (tmp_path / "out").exists()


def test_a_released_folder_is_not_loaded_but_its_conversion_named(tmp_path: Path) -> None:
    save_policy(tmp_path / "own", published("pi05"), provenance={})
    there = foreign(tmp_path / "own", tmp_path / "there", "lerobot")
    with pytest.raises(
        FileNotFoundError, match=r"'stats\.json' is missing.*rlco policies convert SOURCE DEST --to rlco"
    ):
        load_policy(there)
    (there / "stats.json").write_text("{}")
    with pytest.raises(ValueError, match=r"does not say its family.*rlco policies convert SOURCE DEST --to rlco"):
        load_policy(there)


def test_what_a_released_layout_cannot_say_is_refused(tmp_path: Path) -> None:
    plain = Interface.of_family("pi05", CODEC)
    save_policy(tmp_path / "words", published("pi05", interface=replace(plain, prompt="plain")), provenance={})
    with pytest.raises(ValueError, match=r"lerobot prompts pi05 in the style 'pi05' only.*trained with 'plain'"):
        go(tmp_path / "words", tmp_path / "out", "lerobot")
    clipped = replace(plain, codec=replace(CODEC, state_clip=1.5))
    save_policy(tmp_path / "clip", published("pi05", interface=clipped), provenance={})
    with pytest.raises(ValueError, match=r"clips its states at 1\.5"):
        go(tmp_path / "clip", tmp_path / "out", "openpi")
    grounded = replace(config("pi05"), grounding_heads=2)
    save_policy(tmp_path / "ground", PiPolicy(grounded, plain), provenance={})
    with pytest.raises(ValueError, match=r"grounding token.*it stays in the layout rlco"):
        go(tmp_path / "ground", tmp_path / "out", "openpi")
    assert {path.name for path in tmp_path.iterdir()} == {"words", "clip", "ground"}
