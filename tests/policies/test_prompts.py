from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rlco.policies.pi.config import pi05_nano, pi05_tiny
from rlco.policies.pi.inputs import Preprocessor
from rlco.policies.pi.interface import Interface
from rlco.policies.pi.prompts import STYLES, clean, require_style, state_bins, tokenise
from rlco.policies.pi.tokenizer import FileTokenizer, ToyTokenizer, open_tokenizer, save_tokenizer
from rlco.policies.words import EDITIONS, LATEST, vocabulary_size, words
from tests.policies.folders import CODEC, TOKENS, config, observation, text, write_tokenizer

TASKS = ("push_the pink cube\n", "Close it")


@pytest.fixture
def tokenizer(tmp_path: Path) -> FileTokenizer:
    return FileTokenizer.open(write_tokenizer(tmp_path / "tokenizer.json"))


def ids_of(style: str, state: torch.Tensor, tokenizer: FileTokenizer, length: int = 200) -> list[list[int]]:
    ids, is_token, _ = tokenise(TASKS, STYLES[style](state), tokenizer=tokenizer, length=length)
    assert bool((ids[~is_token] == 0).all())
    return [row[real].tolist() for row, real in zip(ids, is_token, strict=True)]


def test_state_bins_follow_the_published_rule() -> None:
    state = torch.tensor([[-1.1, -1.0, 0.0, 0.9999, 1.0, 5.0]])
    assert state_bins(state).tolist() == [[-1, 0, 128, 255, 255, 255]]
    many = torch.linspace(-1.2, 1.2, 1001)[None]
    wanted = np.digitize(many.numpy(), np.linspace(-1, 1, 257)[:-1].astype(np.float32)) - 1
    assert state_bins(many).tolist() == wanted.tolist()


def test_a_task_is_cleaned_as_openpi_does_and_keeps_its_case() -> None:
    assert clean("  pick_up\nThe__Cube \n") == "pick up The  Cube"


def test_the_pi05_prompt_says_task_and_unpadded_state(tokenizer: FileTokenizer) -> None:
    state = torch.tensor([[-2.0, -1.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5]])
    first, second = ids_of("pi05", state, tokenizer)
    assert text(first) == "<bos>Task: push the pink cube, State: -1 0 128 255;\nAction: "
    assert text(second) == "<bos>Task: Close it, State: 192 192 192 192;\nAction: "


def test_the_prompt_of_older_fine_tunes_pads_the_state_before_it_is_discretised(tokenizer: FileTokenizer) -> None:
    state = torch.tensor([[-2.0, 1.0], [0.5, 0.5]])
    first, _ = ids_of("pi05_padded32", state, tokenizer)
    assert text(first) == f"<bos>Task: push the pink cube, State: -1 255{' 128' * 30};\nAction: "


def test_the_plain_prompt_is_task_and_newline_whatever_the_state(tokenizer: FileTokenizer) -> None:
    for value in (0.0, 1.0):
        first, second = ids_of("plain", torch.full((2, 8), value), tokenizer)
        assert text(first) == "<bos>push the pink cube\n"
        assert text(second) == "<bos>Close it\n"


@pytest.mark.parametrize("style", STYLES)
def test_the_words_of_the_task_are_marked(tokenizer: FileTokenizer, style: str) -> None:
    for made in (tokenizer, ToyTokenizer()):
        bins = STYLES[style](torch.zeros(2, 8))
        ids, _, is_word = tokenise(TASKS, bins, tokenizer=made, length=200)
        if made is tokenizer:
            marked = [text(row[real].tolist()) for row, real in zip(ids, is_word, strict=True)]
            assert marked == ["push the pink cube", "Close it"]
        else:
            assert is_word.sum(1).tolist() == [4, 2]


def test_the_built_in_tokenizer_numbers_its_tokens_as_the_shipped_embedding_does() -> None:
    ids, place = ToyTokenizer().encode("push the cube", [-1, 0, 255])
    assert (ids, place) == ([1, 3, *words("push the cube"), 4, 7, 8, 263, 5], slice(2, 5))
    assert words("push the cube") == (305, 318, 344)
    assert ToyTokenizer().encode("push", None)[0] == [1, 305, 385]


def test_an_unknown_word_is_spelled() -> None:
    assert len(words("push")) == 1
    assert len(words("zebra")) == 5
    assert vocabulary_size() <= pi05_tiny().vocabulary


def test_a_policy_of_an_earlier_edition_still_spells_the_words_that_were_added_since(tmp_path: Path) -> None:
    apple = tuple(words(letter)[0] for letter in "apple")
    assert words("an apple", "toy") == (*words("an"), *apple)
    assert words("an apple") == (*words("an"), EDITIONS["toy"])  # the first that was added
    assert open_tokenizer("toy", tmp_path).encode("apple", None)[0][1:-1] == list(apple)
    assert save_tokenizer(open_tokenizer("toy", tmp_path), tmp_path) == "toy"
    assert save_tokenizer(ToyTokenizer(), tmp_path) == LATEST
    assert vocabulary_size("toy") == 390  # what the shipped bases were trained with


def test_a_tokenizer_goes_with_its_checkpoint(tokenizer: FileTokenizer, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    name = save_tokenizer(tokenizer, folder)
    assert open_tokenizer(name, folder) == tokenizer
    assert open_tokenizer(name, folder).encode("push", [3]) == tokenizer.encode("push", [3])
    assert open_tokenizer(save_tokenizer(ToyTokenizer(), folder), folder) == ToyTokenizer()
    with pytest.raises(ValueError, match=r"names the tokenizer 'gemma'; known: toy, toy-2, tokenizer\.json"):
        open_tokenizer("gemma", folder)


def test_what_is_no_tokenizer_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a SentencePiece model; give the tokenizer\.json of the same"):
        FileTokenizer.open(tmp_path / "paligemma_tokenizer.model")
    with pytest.raises(ValueError, match=r"'.*nothing\.json' does not exist: a tokenizer is a file"):
        FileTokenizer.open(tmp_path / "nothing.json")
    with pytest.raises(ValueError, match="is a folder: a tokenizer is a file"):
        FileTokenizer.open(tmp_path)
    broken = tmp_path / "broken.json"
    broken.write_text('{"a": 1}')
    with pytest.raises(ValueError, match=r"broken\.json' is not a tokenizer\.json"):
        FileTokenizer.open(broken)
    other = write_tokenizer(tmp_path / "other.json")
    other.write_text(other.read_text().replace("<bos>", "<begin>"))
    with pytest.raises(ValueError, match="has no token <bos>"):
        FileTokenizer.open(other)


def test_a_long_prompt_is_refused_not_cut(tokenizer: FileTokenizer) -> None:
    with pytest.raises(ValueError, match=r"'push_the pink cube\n' has 20 tokens, the policy takes 19: shorten"):
        tokenise(TASKS, None, tokenizer=tokenizer, length=19)
    tokenise(TASKS, None, tokenizer=tokenizer, length=20)
    with pytest.raises(ValueError, match="has 45 tokens, the policy takes 24"):
        tokenise(("push the purple cube " * 9,), STYLES["pi05"](torch.zeros(1, 5)), tokenizer=ToyTokenizer(), length=24)


def test_whether_instructions_fit_is_judged_by_the_longest_state(tokenizer: FileTokenizer) -> None:
    interface = Interface(codec=CODEC, prompt="pi05", tokenizer=tokenizer)
    # 4 characters of each of 8 bins; "255" is longer than "-1"
    needed = len("Task: Close it, State:;\nAction: ") + 8 * len(" 255") + 1
    for length, fits in ((needed, True), (needed - 1, False)):
        preprocessor = Preprocessor(replace(config("pi05"), prompt_length=length), interface)
        if fits:
            preprocessor.require_fits(["Close it"])
            preprocessor.require_fits([])
            continue
        with pytest.raises(ValueError, match=rf"'Close it' has {needed} tokens, the policy takes {needed - 1}"):
            preprocessor.require_fits(["it", "Close it"])


class Peculiar:
    """A tokenizer that spends two tokens on one bin alone."""

    def encode(self, task: str, bins: Sequence[int] | None) -> tuple[list[int], slice]:
        assert bins is not None
        return [1] * (1 + len(task) + sum(2 if b == 200 else 1 for b in bins)), slice(1, 1)


def test_the_longest_state_is_looked_for_among_all_bins() -> None:
    interface = Interface(codec=CODEC, prompt="pi05", tokenizer=Peculiar())
    Preprocessor(replace(config("pi05"), prompt_length=19), interface).require_fits(["it"])
    with pytest.raises(ValueError, match="has 19 tokens, the policy takes 18"):
        Preprocessor(replace(config("pi05"), prompt_length=18), interface).require_fits(["it"])


def test_a_tokenizer_of_another_model_is_refused() -> None:
    interface = Interface.of_family("pi05", CODEC)
    preprocessor = Preprocessor(replace(pi05_nano(), vocabulary=300), interface)
    with pytest.raises(ValueError, match="gives token 344, the policy knows 300: it is not the tokenizer"):
        preprocessor.require_fits(["push the cube"])
    assert len(TOKENS) < config("pi05").vocabulary


def test_an_unknown_style_suggests_the_near_one() -> None:
    with pytest.raises(LookupError, match=r"No prompt style named 'pi0.5'. Did you mean 'pi05'"):
        require_style("pi0.5")


def test_cameras_become_pixels_in_the_order_of_the_published_slots() -> None:
    seen = observation()
    cameras = {"base_0_rgb": "wrist", "right_wrist_0_rgb": "front"}
    wrist = torch.full((2, 64, 32, 3), 255, dtype=torch.uint8)
    preprocessor = Preprocessor(config("pi0"), replace(Interface.of_family("pi0", CODEC), cameras=cameras))
    inputs = preprocessor(replace(seen, cameras={"wrist": wrist, "unused": wrist}))
    assert inputs.pixels.shape == (2, 2, 3, 32, 32)
    torch.testing.assert_close(inputs.pixels[:, 1], seen.image.permute(0, 3, 1, 2) / 127.5 - 1)
    # 64 x 32 becomes 32 x 16 in the middle of black
    assert bool((inputs.pixels[:, 0, :, :, 8:24] == 1).all())
    assert bool((inputs.pixels[:, 0, :, :, :8] == -1).all())
    with pytest.raises(ValueError, match="looks through camera 'wrist', the observation has: front"):
        preprocessor(seen)


def test_a_source_that_lacks_a_camera_is_named() -> None:
    cameras = {"base_0_rgb": "front", "left_wrist_0_rgb": "wrist"}
    preprocessor = Preprocessor(config("pi05"), replace(Interface.of_family("pi05", CODEC), cameras=cameras))
    preprocessor.require_cameras(["front", "wrist", "top"], source="the world")
    with pytest.raises(ValueError, match=r"2 cameras \(front, wrist\), dataset 'd' has front: missing wrist"):
        preprocessor.require_cameras(["front"], source="dataset 'd'")


def test_the_state_is_normalised_and_padded_for_the_state_token() -> None:
    wide = replace(config("pi0"), model_state_dim=12)
    inputs = Preprocessor(wide, Interface.of_family("pi0", CODEC))(observation())
    torch.testing.assert_close(inputs.state[:, :8], observation().state - 0.1)
    assert bool((inputs.state[:, 8:] == 0).all())


def test_a_state_is_clipped_only_where_the_checkpoint_says_so() -> None:
    seen = replace(observation(), state=torch.full((2, 8), 9.0))
    plain = Preprocessor(config("pi0"), Interface.of_family("pi0", CODEC))
    cut = Preprocessor(config("pi0"), Interface.of_family("pi0", replace(CODEC, state_clip=1.5)))
    assert float(plain(seen).state[0, 0]) == pytest.approx(8.9)
    assert float(cut(seen).state[0, 0]) == 1.5


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        ({}, "1 to 3 slots in the order base_0_rgb, left_wrist_0_rgb, right_wrist_0_rgb, got none"),
        ({"left_wrist_0_rgb": "b", "base_0_rgb": "a"}, "got left_wrist_0_rgb, base_0_rgb"),
        ({"base_0_rgb": "a", "left_wrist_0_rgb": "a"}, "must name each camera once"),
    ],
)
def test_slots_have_one_order_and_one_camera_each(cameras: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Interface(codec=CODEC, prompt="pi05", cameras=cameras)
    with pytest.raises(LookupError, match=r"No camera slot named 'base_rgb'. Did you mean 'base_0_rgb'"):
        Interface(codec=CODEC, prompt="pi05", cameras={"base_rgb": "front"})


def test_another_control_rate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Interface\.control_hz must be 5, got 10"):
        Interface(codec=CODEC, prompt="pi05", control_hz=10)
