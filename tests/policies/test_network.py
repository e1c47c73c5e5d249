from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlco.policies.layers import additive, grouped_attention, packed_attention
from rlco.policies.pi.config import CONFIGS, PiConfig, pi0_base, pi0_tiny, pi05_base, pi05_nano, pi05_tiny
from rlco.policies.pi.inputs import Inputs
from rlco.policies.pi.network import PiNetwork, published_name, visible_tokens, without_weights
from rlco.policies.pi.vision import to_pixels
from tests.policies.networks import network_of, random_inputs

ROOT = Path(__file__).parents[2]
BOTH = pytest.mark.parametrize("config", [pi05_tiny(), pi0_tiny()], ids=["pi05", "pi0"])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chunks(config: PiConfig, *, batch: int = 3, copies: int = 1, seed: int = 5) -> tuple[Tensor, Tensor]:
    """Return noisy chunks (B, N, H, A) and their times (B, N)."""
    shape = (batch, copies, config.horizon, config.model_action_dim)
    return torch.randn(shape, generator=generator(seed)), torch.rand(batch, copies, generator=generator(seed + 1))


def velocity(network: PiNetwork, inputs: Inputs, *, copies: int = 1) -> Tensor:
    noisy, time = chunks(network.config, batch=len(inputs.tokens), copies=copies)
    return network.expert(noisy, time, network.prefix(inputs))[0]


# --- sizes -----------------------------------------------------------------------------------------------------------


def linear(name: str, out: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, inputs), f"{name}.bias": (out,)}


def gemma_layers(root: str, *, width: int, mlp: int) -> dict[str, tuple[int, ...]]:
    """Return what both stacks share: 18 layers, 8 query heads and one key head of 256."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(18):
        layer = f"{root}.layers.{i}"
        shapes |= {f"{layer}.self_attn.{n}_proj.weight": (o, width) for n, o in (("q", 2048), ("k", 256), ("v", 256))}
        shapes[f"{layer}.self_attn.o_proj.weight"] = (width, 2048)
        shapes |= {f"{layer}.mlp.{n}_proj.weight": (mlp, width) for n in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (width, mlp)
    return shapes


def norm_names(root: str) -> list[str]:
    names = [f"{root}.layers.{i}.{n}" for i in range(18) for n in ("input_layernorm", "post_attention_layernorm")]
    return [*names, f"{root}.norm"]


def released_paligemma() -> dict[str, tuple[int, ...]]:
    root = "paligemma_with_expert.paligemma"
    tower, language = f"{root}.model.vision_tower.vision_model", f"{root}.model.language_model"
    shapes: dict[str, tuple[int, ...]] = {
        f"{tower}.embeddings.patch_embedding.weight": (1152, 3, 14, 14),
        f"{tower}.embeddings.patch_embedding.bias": (1152,),
        f"{tower}.embeddings.position_embedding.weight": (256, 1152),
        f"{root}.lm_head.weight": (257152, 2048),
    }
    norms = [f"{tower}.encoder.layers.{i}.layer_norm{n}" for i in range(27) for n in (1, 2)]
    for norm in [*norms, f"{tower}.post_layernorm"]:
        shapes |= {f"{norm}.weight": (1152,), f"{norm}.bias": (1152,)}
    for i in range(27):
        layer = f"{tower}.encoder.layers.{i}"
        shapes |= linear(f"{layer}.mlp.fc1", 4304, 1152) | linear(f"{layer}.mlp.fc2", 1152, 4304)
        for name in ("q", "k", "v", "out"):
            shapes |= linear(f"{layer}.self_attn.{name}_proj", 1152, 1152)
    shapes |= linear(f"{root}.model.multi_modal_projector.linear", 2048, 1152)
    shapes |= gemma_layers(language, width=2048, mlp=16384)
    return shapes | {f"{name}.weight": (2048,) for name in norm_names(language)}


def released(family: str) -> dict[str, tuple[int, ...]]:
    """Return every tensor of the released checkpoint of a family."""
    root = "paligemma_with_expert.gemma_expert"
    shapes = released_paligemma() | gemma_layers(f"{root}.model", width=1024, mlp=4096)
    shapes |= {f"{root}.lm_head.weight": (257152, 1024)}
    shapes |= linear("action_in_proj", 1024, 32) | linear("action_out_proj", 32, 1024)
    if family == "pi0":
        shapes |= linear("state_proj", 1024, 32) | linear("action_time_mlp_in", 1024, 2048)
        shapes |= linear("action_time_mlp_out", 1024, 1024)
        return shapes | {f"{name}.weight": (1024,) for name in norm_names(f"{root}.model")}
    shapes |= linear("time_mlp_in", 1024, 1024) | linear("time_mlp_out", 1024, 1024)
    for name in norm_names(f"{root}.model"):
        shapes |= linear(f"{name}.dense", 3072, 1024)
    return shapes


@pytest.mark.parametrize(
    ("config", "tensors", "elements"),
    [(pi05_base(), 812, 3_616_757_520), (pi0_base(), 777, 3_501_372_176)],
    ids=["pi05", "pi0"],
)
def test_the_released_sizes_have_the_published_keys_and_shapes(config: PiConfig, tensors: int, elements: int) -> None:
    expected = released(config.family)
    assert len(expected) == tensors
    assert sum(torch.Size(shape).numel() for shape in expected.values()) == elements
    ours = {published_name(name): tuple(v.shape) for name, v in without_weights(config).state_dict().items()}
    expected.pop("paligemma_with_expert.gemma_expert.lm_head.weight")  # no forward pass uses it, ours has none
    assert ours == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_heads": 3}, r"PiConfig\.heads must be a multiple of kv_heads 3, got 2"),
        ({"model_action_dim": 6}, r"PiConfig\.model_action_dim must be 7 or more, got 6"),
        ({"model_state_dim": 7}, r"PiConfig\.model_state_dim must be 8 or more, got 7"),
    ],
)
def test_a_size_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(pi05_tiny(), **change)


def test_an_unknown_family_is_refused() -> None:
    config = pi05_tiny()
    object.__setattr__(config, "family", "pi1")  # as JSON could bring it; the type checks of the tests would be first
    with pytest.raises(ValueError, match=r"PiConfig\.family must be one of pi05, pi0, got 'pi1'"):
        config.__post_init__()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_comes_back_from_json(name: str) -> None:
    config = CONFIGS[name]()
    assert PiConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("name", [name for name in CONFIGS if "base" not in name])
def test_a_network_without_weights_gives_the_same_bits_once_it_has_them(name: str) -> None:
    config = CONFIGS[name]()
    network, empty = network_of(config), without_weights(config)
    assert all(p.is_meta for p in empty.parameters())
    assert not any(b.is_meta for b in empty.buffers())
    empty.load_state_dict(network.state_dict(), assign=True)
    assert {n for n, _ in empty.named_parameters()} == {n for n, _ in network.named_parameters()}
    inputs = random_inputs(config)
    assert torch.equal(velocity(network, inputs), velocity(empty, inputs))
    assert next(empty.parameters()).data_ptr() == next(network.parameters()).data_ptr()  # nothing was copied


# --- what the tokens see ---------------------------------------------------------------------------------------------


def test_a_chunk_sees_itself() -> None:
    assert visible_tokens(copies=1, horizon=3).tolist() == [[True] * 3]  # one row: every token sees all
    assert visible_tokens(copies=2, horizon=2).int().tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 1],
        [0, 0, 1, 1],
    ]


@BOTH
def test_chunks_that_share_a_prefix_do_not_see_each_other(config: PiConfig) -> None:
    network, inputs = network_of(config), random_inputs(config)
    prefix, (noisy, time) = network.prefix(inputs), chunks(config, copies=4)
    together, _ = network.expert(noisy, time, prefix)
    alone = torch.cat([network.expert(noisy[:, [k]], time[:, [k]], prefix)[0] for k in range(4)], dim=1)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@BOTH
def test_a_padded_prompt_means_the_same_as_a_short_one(config: PiConfig) -> None:
    network, inputs = network_of(config), random_inputs(config)
    row = {f.name: getattr(inputs, f.name)[:1] for f in fields(inputs)}
    used = int(row["is_token"].sum())
    assert used < config.prompt_length
    short = row | {name: row[name][:, :used] for name in ("tokens", "is_token", "is_word")}
    padded, cut = network.prefix(Inputs(**row)), network.prefix(Inputs(**short))
    torch.testing.assert_close(padded.summary, cut.summary)
    noisy, time = chunks(config, batch=1)
    torch.testing.assert_close(network.expert(noisy, time, padded)[0], network.expert(noisy, time, cut)[0])


@BOTH
def test_an_absent_camera_means_the_same_as_a_masked_one(config: PiConfig) -> None:
    network, two = network_of(config), random_inputs(config, cameras=2)
    one = replace(two, pixels=two.pixels[:, :1])
    patches = (config.image_size // config.patch_size) ** 2
    # masked by hand: the second camera's patches are in the sequence, not attended and not counted in positions
    tokens = torch.cat([torch.zeros(3, patches, dtype=torch.long), two.tokens], dim=1)
    masked = replace(
        one,
        tokens=tokens,
        is_token=torch.cat([torch.zeros(3, patches, dtype=torch.bool), two.is_token], dim=1),
        is_word=torch.cat([torch.zeros(3, patches, dtype=torch.bool), two.is_word], dim=1),
    )
    torch.testing.assert_close(velocity(network, one), velocity(network, masked))
    assert (velocity(network, one) - velocity(network, two)).abs().max() > 1e-3  # a camera that is there is seen


def test_cameras_have_their_order() -> None:
    config = pi05_tiny()
    network, inputs = network_of(config), random_inputs(config, cameras=2)
    swapped = replace(inputs, pixels=inputs.pixels.flip(1))
    assert (velocity(network, inputs) - velocity(network, swapped)).abs().max() > 1e-4


def test_only_pi0_reads_the_state_beside_the_prompt() -> None:
    for config, is_read in ((pi05_tiny(), False), (pi0_tiny(), True)):
        network, inputs = network_of(config), random_inputs(config)
        other = replace(inputs, state=-inputs.state)
        same = torch.equal(velocity(network, inputs), velocity(network, other))
        assert same is not is_read


@BOTH
def test_surroundings_that_are_kept_change_nothing(config: PiConfig) -> None:
    network, inputs = network_of(config), random_inputs(config)
    prefix, (noisy, time) = network.prefix(inputs), chunks(config)
    around = network.surroundings(prefix, copies=1)
    fresh, kept = (network.expert(noisy, time, prefix, surroundings=s)[0] for s in (None, around))
    assert torch.equal(fresh, kept)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("kv", [1, 2, 4])
def test_packed_attention_is_grouped_attention(rows: int, kv: int) -> None:
    q, k, v = (torch.randn(2, heads, length, 8, generator=generator(9)) for heads, length in ((4, 5), (kv, 7), (kv, 7)))
    seen = torch.rand(2, rows, 7, generator=generator()) < 0.6
    seen[..., 0] = True
    mask = additive(seen, torch.float32)
    torch.testing.assert_close(packed_attention(q, k, v, mask), grouped_attention(q, k, v, mask))


# --- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "size", "rows", "columns"),
    [
        (480, 640, 224, 168, 224),  # 480 / (640 / 224) = 168
        (1080, 1920, 224, 126, 224),
        (100, 300, 224, 74, 224),  # 74.67 is cut, not rounded; one more row of padding below than above is 75 and 75
        (300, 100, 224, 224, 74),
        (50, 50, 32, 32, 32),
    ],
)
def test_an_image_keeps_its_shape_and_is_padded_in_black(
    height: int, width: int, size: int, rows: int, columns: int
) -> None:
    pixels = to_pixels(torch.full((1, height, width, 3), 255, dtype=torch.uint8), size=size)
    inside = pixels[0, 0] > 0
    assert int(inside.any(1).sum()) == rows
    assert int(inside.any(0).sum()) == columns
    top, left = int(inside.any(1).int().argmax()), int(inside.any(0).int().argmax())
    assert (top, left) == ((size - rows) // 2, (size - columns) // 2)
    assert bool((pixels[0, 0][~inside] == -1).all())


def test_only_shrinking_is_smoothed() -> None:
    stripes = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    stripes[:, :, ::2] = 255
    assert to_pixels(stripes, size=16).abs().max() < 0.2  # grey: every stripe counts
    doubled = to_pixels(stripes, size=128)
    plain = torch.nn.functional.interpolate(
        stripes.permute(0, 3, 1, 2).float() / 127.5 - 1, size=(128, 128), mode="bilinear", align_corners=False
    )
    assert torch.equal(doubled, plain)


# --- precision, memory -----------------------------------------------------------------------------------------------


@BOTH
def test_bfloat16_keeps_what_is_sensitive_in_float32(config: PiConfig) -> None:
    network = network_of(config).to_bfloat16()
    kept = {published_name(name) for name, p in network.named_parameters() if p.dtype == torch.float32}
    lowered = {published_name(name) for name, p in network.named_parameters() if p.dtype == torch.bfloat16}
    stacks = {"paligemma_with_expert.paligemma.model.language_model", "paligemma_with_expert.gemma_expert.model"}
    norm = "dense." if config.family == "pi05" else ""
    for stack in stacks:
        suffix = norm if "expert.model" in stack else ""
        assert f"{stack}.layers.1.input_layernorm.{suffix}weight" in kept
        assert f"{stack}.layers.0.post_attention_layernorm.{suffix}weight" in kept
        assert f"{stack}.norm.{suffix}weight" in kept
        assert f"{stack}.layers.1.self_attn.q_proj.weight" in lowered
        assert f"{stack}.layers.1.mlp.down_proj.weight" in lowered
    tower = "paligemma_with_expert.paligemma.model.vision_tower.vision_model"
    assert {f"{tower}.embeddings.patch_embedding.{n}" for n in ("weight", "bias")} <= kept
    assert f"{tower}.embeddings.position_embedding.weight" in kept
    assert f"{tower}.encoder.layers.0.layer_norm1.weight" in lowered
    assert "paligemma_with_expert.paligemma.lm_head.weight" in lowered
    outside = {published_name(name) for name, _ in network.named_parameters() if "paligemma_with" not in name}
    assert outside <= kept  # projections of states, actions and times; grounding
    assert kept | lowered == {published_name(name) for name, _ in network.named_parameters()}


@BOTH
def test_bfloat16_stays_close_and_speaks_float32(config: PiConfig) -> None:
    exact, inputs = network_of(config), random_inputs(config, cameras=2)
    network = copy.deepcopy(exact).to_bfloat16()
    (noisy, time), prefix = chunks(config, copies=2), network.prefix(inputs)
    assert prefix.key.dtype == prefix.value.dtype == torch.bfloat16
    assert prefix.summary.dtype == torch.float32
    out, features = network.expert(noisy, time, prefix)
    assert out.dtype == features.dtype == torch.float32
    expected = exact.expert(noisy, time, exact.prefix(inputs))[0]
    error = (out - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 1e-5 < error < 0.03  # bfloat16 has 8 bits: 0.4 % an operation


@BOTH
def test_bfloat16_trains_every_parameter(config: PiConfig) -> None:
    network = network_of(config).to_bfloat16()
    velocity(network, random_inputs(config)).square().mean().backward()
    unused = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()}
    last = f"paligemma_with_expert.paligemma.model.language_model.layers.{config.depth - 1}."
    # the last prefix layer's output is read by no one but the critic
    assert all(n.startswith(last) or "language_model.norm" in n for n in unused), unused


@BOTH
def test_recomputing_in_the_backward_pass_changes_no_gradient(config: PiConfig) -> None:
    networks = [network_of(config), network_of(config)]
    networks[1].set_recompute(recompute=True)
    for network in networks:
        velocity(network, random_inputs(config), copies=2).square().mean().backward()
    for plain, again in zip(*(n.parameters() for n in networks), strict=True):
        assert (plain.grad is None) == (again.grad is None)
        if plain.grad is not None and again.grad is not None:
            torch.testing.assert_close(again.grad, plain.grad)


def kept_bytes(network: PiNetwork, inputs: Inputs) -> int:
    """Return how much memory the forward pass keeps for the backward pass, beside the parameters."""
    own, kept = {p.data_ptr() for p in network.parameters()}, {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        velocity(network, inputs)
    return sum(kept.values())


def test_recomputing_keeps_less() -> None:
    network = network_of(replace(pi05_nano(), grounding_heads=0))
    inputs = random_inputs(network.config)
    plain = kept_bytes(network, inputs)
    network.set_recompute(recompute=True)
    assert kept_bytes(network, inputs) < 0.4 * plain


_COMPILED = """
import torch
from rlco.policies.pi.config import CONFIGS
from tests.policies.networks import network_of, random_inputs

for name in ("pi05-tiny", "pi0-tiny"):
    network = network_of(CONFIGS[name]())
    inputs, noisy, time = random_inputs(network.config), torch.randn(3, 1, 8, 8), torch.rand(3, 1)
    names = set(network.state_dict())
    plain = network.expert(noisy, time, network.prefix(inputs))[0]
    network.compile_layers(backend="eager")  # traced, not generated: seconds instead of a minute
    torch.testing.assert_close(network.expert(noisy, time, network.prefix(inputs))[0], plain)
    assert set(network.state_dict()) == names
print(sum(sum(c.values()) for k, c in torch._dynamo.utils.counters.items() if k == "stats"))
"""


def test_compiling_the_layers_changes_nothing() -> None:
    # a process of its own: torch.compile cannot trace the type checks of the tests
    done = subprocess.run([sys.executable, "-c", _COMPILED], capture_output=True, text=True, timeout=200, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0  # something was traced
