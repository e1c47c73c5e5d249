import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlco.data.normalise import Codec, Normaliser
from rlco.policies.checkpoint import base_policy, load_policy, policy_tensors, save_policy
from rlco.policies.contract import AnyPolicy
from rlco.policies.families import new_policy
from rlco.policies.pi.interface import Interface
from rlco.policies.pi.tokenizer import FileTokenizer
from rlco.policies.tensor_files import Entry, TensorFile, write_tensors
from tests.policies.folders import CODEC, action, edit_json, policy, write_tokenizer

FAMILIES = ("pi05", "pi0")


def same_bits(first: AnyPolicy, second: AnyPolicy) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_policy(tmp_path / "p", policy("pi05"), provenance={"why": "test"})
    return tmp_path / "p"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path, family: str) -> None:
    made = policy(family)
    save_policy(tmp_path / "p", made, provenance={"why": "test"})
    back = load_policy(tmp_path / "p")
    assert (back.config, back.interface) == (made.config, made.interface)
    assert same_bits(back, made)
    assert torch.equal(action(back), action(made))
    assert all(p.requires_grad and not p.is_meta and p.dtype == torch.float32 for p in back.parameters())


def test_every_field_of_the_interface_comes_back(tmp_path: Path) -> None:
    codec = Codec(state=Normaliser.mean_std((0.1,) * 8, (0.3,) * 8, epsilon=1e-6), action=CODEC.action, state_clip=1.5)
    interface = Interface(
        codec=codec,
        prompt="pi05_padded32",
        tokenizer=FileTokenizer.open(write_tokenizer(tmp_path / "tokenizer.json")),
        cameras={"base_0_rgb": "front", "left_wrist_0_rgb": "wrist"},
    )
    save_policy(tmp_path / "p", policy("pi05", interface=interface), provenance={})
    (tmp_path / "tokenizer.json").unlink()  # the checkpoint has a copy
    back = load_policy(tmp_path / "p").interface
    assert back == interface
    assert list(back.cameras) == list(interface.cameras)


def test_the_shipped_base_has_its_units_its_prompt_and_its_camera() -> None:
    base = base_policy("pi05-nano")
    assert (base.config.family, base.interface.prompt) == ("pi05", "pi05")
    assert base.interface.cameras == {"base_0_rgb": "front"}
    assert base.codec.action.high == (0.05,) * 3 + (0.1,) * 3 + (1.0,)
    assert base.codec.state_clip is None


def test_a_loaded_policy_does_not_share_memory_with_its_file(saved: Path) -> None:
    before = load_policy(saved)
    kept = {name: value.clone() for name, value in before.state_dict().items()}
    with (saved / "model.safetensors").open("r+b") as file:
        file.seek(-64, 2)
        file.write(b"\xff" * 64)
    assert all(torch.equal(value, kept[name]) for name, value in before.state_dict().items())


def test_half_of_the_bits_are_stored_where_asked(tmp_path: Path) -> None:
    made = policy("pi0")
    save_policy(tmp_path / "p", made, provenance={}, half=True)
    assert {value.dtype for value in load_file(tmp_path / "p" / "model.safetensors").values()} == {torch.float16}
    back = load_policy(tmp_path / "p").state_dict()
    assert all(torch.equal(value.half().float(), back[name]) for name, value in made.state_dict().items())


def test_a_checkpoint_with_wrong_keys_is_refused_and_every_key_is_named(saved: Path) -> None:
    file = saved / "model.safetensors"
    tensors = load_file(file)
    tensors.pop("action_in_proj.bias")
    tensors["action_out_proj.bias"] = torch.zeros(3)
    tensors["stranger"] = torch.zeros(1)
    save_file(tensors, file)
    with pytest.raises(
        ValueError, match=r"missing action_in_proj\.bias; unexpected stranger; action_out_proj\.bias has shape \[3\]"
    ):
        load_policy(saved)


def test_a_truncated_checkpoint_and_a_missing_file_are_named(saved: Path) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged"):
        load_policy(saved)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load_policy(saved)
    (saved / "stats.json").unlink()
    file.touch()
    with pytest.raises(FileNotFoundError, match=r"'stats\.json' is missing"):
        load_policy(saved)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"horizn": 8}, "horizn"),
        ("config.json", {"family": "pi1"}, "'pi1'"),
        ("config.json", {"vision": {"width": 16}}, "Not a configuration of pi0 or pi0.5: .*'mlp'"),
        ("config.json", {"expert": 24}, "Not a configuration of pi0 or pi0.5: "),
        ("config.json", {"denoise_steps": 0}, r"PiConfig\.denoise_steps must be 1 or more, got 0"),
        ("config.json", {"flow_copies": 0}, r"PiConfig\.flow_copies must be 1 or more, got 0"),
        ("config.json", {"depth": 0}, r"PiConfig\.depth must be 1 or more, got 0"),
        ("config.json", {"vision_depth": 0}, r"PiConfig\.vision_depth must be 1 or more, got 0"),
        ("config.json", {"vision_heads": 3}, r"PiConfig\.vision\.width must be a multiple of vision_heads 3, got 16"),
        ("config.json", {"vision_heads": 0}, r"PiConfig\.vision_heads must be 1 or more, got 0"),
        ("config.json", {"kv_heads": 0}, r"PiConfig\.kv_heads must be 1 or more, got 0"),
        ("config.json", {"head_dim": 7}, r"PiConfig\.head_dim must be even, got 7"),
        ("config.json", {"expert": {"width": 25, "mlp": 32}}, r"PiConfig\.expert\.width must be even, got 25"),
        ("config.json", {"family": None}, "does not say its family.*rlco policies convert SOURCE DEST --to rlco"),
        ("stats.json", {"control_hz": 10}, "trained with control_hz 10; this version runs 5 only"),
        ("stats.json", {"codec": None}, "no normalisation of state and action"),
        ("stats.json", {"codec": {"state": {}, "action": {}}}, "Not a normaliser: it needs low and high"),
        ("stats.json", {"prompt": "pi06"}, "No prompt style named 'pi06'. Did you mean 'pi05'"),
        ("stats.json", {"prompt": None}, "lacks the fields: prompt"),
        ("stats.json", {"tokenizer": None}, "lacks the fields: tokenizer"),
        ("stats.json", {"cameras": {"base": "front"}}, "No camera slot named 'base'"),
        ("stats.json", {"cameras": {}}, "1 to 3 slots"),
        ("stats.json", {"tokenizer": "tokenizer.json"}, r"tokenizer\.json' does not exist"),
        ("stats.json", {"camras": {}}, "unknown fields: camras"),
    ],
)
def test_a_description_that_cannot_be_meant_is_refused(
    saved: Path, file: str, change: dict[str, object], message: str
) -> None:
    edit_json(saved / file, **change)
    with pytest.raises(ValueError if "No " not in message[:3] else (ValueError, LookupError), match=message):
        load_policy(saved)


def test_statistics_of_other_dimensions_are_refused_with_both_numbers(saved: Path) -> None:
    codec = json.loads((saved / "stats.json").read_text())["codec"]
    codec["action"] = {"low": [0.0] * 6, "high": [1.0] * 6}
    edit_json(saved / "stats.json", codec=codec)
    with pytest.raises(ValueError, match=r"Codec\.action must have 7 dimensions, got 6"):
        load_policy(saved)


def test_a_file_that_is_no_json_is_named(saved: Path) -> None:
    (saved / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json' cannot be read"):
        load_policy(saved)
    (saved / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="does not hold a JSON object"):
        load_policy(saved)


def test_cameras_in_the_older_form_are_read(saved: Path) -> None:
    edit_json(saved / "stats.json", cameras=["front"])
    assert load_policy(saved).interface.cameras == {"base_0_rgb": "front"}


def test_an_unknown_policy_name_suggests_the_near_one() -> None:
    with pytest.raises(LookupError, match="Did you mean 'pi05-nano'"):
        new_policy("pi05-nan", CODEC, seed=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_published_names_cover_every_tensor_once(family: str) -> None:
    made = policy(family)
    assert len(policy_tensors(made)) == len(made.state_dict())


def test_tensors_are_written_as_the_formats_own_library_reads_them(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "a": torch.randn(3, 5, generator=generator),
        "b": torch.randn(7, generator=generator).bfloat16(),
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "empty": torch.zeros(0, 4),
        "turned": torch.arange(6.0).view(2, 3).T,
        "flags": torch.tensor([True, False, True]),
    }
    entries = {name: Entry.of(value) for name, value in tensors.items()}
    entries["zeros"] = Entry(shape=(2, 3), kind="F16", read=None)
    write_tensors(tmp_path / "t", entries)
    back = load_file(tmp_path / "t")
    wanted = {**tensors, "zeros": torch.zeros(2, 3, dtype=torch.float16)}
    assert back.keys() == wanted.keys()
    for name, value in wanted.items():
        assert back[name].dtype == value.dtype
        assert torch.equal(back[name], value)
    written = (tmp_path / "t").read_bytes()
    header = json.loads(written[8 : 8 + int.from_bytes(written[:8], "little")])
    assert all(header[name]["data_offsets"][0] % value.element_size() == 0 for name, value in wanted.items())
    copied = {name: Entry.from_file(TensorFile(tmp_path / "t"), name) for name in wanted}
    write_tensors(tmp_path / "u", copied)
    assert (tmp_path / "u").read_bytes() == (tmp_path / "t").read_bytes()


def test_saving_again_replaces_the_folder(saved: Path) -> None:
    other = policy("pi05", seed=3)
    save_policy(saved, other, provenance={})
    assert same_bits(load_policy(saved), other)


def test_the_weights_of_a_policy_do_not_depend_on_the_interface() -> None:
    plain = Interface.of_family("pi05", CODEC)
    assert same_bits(policy("pi05", interface=plain), policy("pi05", interface=replace(plain, prompt="plain")))
