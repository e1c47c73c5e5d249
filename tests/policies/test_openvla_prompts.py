"""What OpenVLA is told in words."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlco.data.normalise import Codec, Normaliser
from rlco.policies.checkpoint import load_policy, save_policy
from rlco.policies.openvla.config import OpenVlaConfig, openvla_7b, openvla_tiny
from rlco.policies.openvla.inputs import Preprocessor
from rlco.policies.openvla.interface import Interface
from rlco.policies.openvla.prompts import STYLES, Tokenizer, tokenise
from rlco.policies.openvla.tokenizer import FileTokenizer, ToyTokenizer, open_tokenizer, save_tokenizer
from rlco.policies.words import INDEX, vocabulary_size
from tests.policies.openvla_folders import config, published, write_tokenizer

CODEC = Codec(state=Normaliser(low=(-1.0,) * 8, high=(1.0,) * 8), action=Normaliser(low=(-1.0,) * 7, high=(1.0,) * 7))


@pytest.fixture
def tokenizer(tmp_path: Path) -> FileTokenizer:
    return FileTokenizer.open(write_tokenizer(tmp_path / "tokenizer.json"))


def pieces(tokenizer: FileTokenizer, ids: list[int]) -> list[str]:
    return [str(tokenizer.file.made.id_to_token(i)) for i in ids]


def preprocessor(tokenizer: Tokenizer, *, size: OpenVlaConfig | None = None) -> Preprocessor:
    return Preprocessor(size or config(), Interface(codec=CODEC, tokenizer=tokenizer))


def test_the_prompt_is_the_published_text_and_the_empty_piece(tokenizer: FileTokenizer) -> None:
    ids, place = tokenizer.encode("openvla", "push the pink cube")
    spelled = pieces(tokenizer, ids)
    text = "".join(spelled).replace("▁", " ").replace("<0x0A>", "\n")
    assert text == " In: What action should the robot take to push the pink cube?\nOut: "
    assert spelled[-1] == "▁"
    assert spelled[place] == ["▁push", "▁the", "▁pink", "▁cube"]
    assert (tokenizer.begin, tokenizer.end, tokenizer.pad) == (1, 2, 768)


def test_a_prompt_ends_with_id_29871_where_llama_has_the_empty_piece(tmp_path: Path) -> None:
    tokenizer = FileTokenizer.open(write_tokenizer(tmp_path / "tokenizer.json", size=32_000, empty_at=29_871))
    ids, place = tokenizer.encode("openvla", "push the pink cube")
    assert ids[-1] == tokenizer.empty == 29_871
    assert pieces(tokenizer, ids)[place] == ["▁push", "▁the", "▁pink", "▁cube"]


def test_the_empty_piece_is_not_doubled(tokenizer: FileTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLES, "spaced", ("to ", " "))
    ids, _ = tokenizer.encode("spaced", "push")
    assert pieces(tokenizer, ids)[-2:] == ["▁push", "▁"]


def test_the_first_checkpoint_is_prompted_as_it_was(tokenizer: FileTokenizer) -> None:
    ids, place = tokenizer.encode("v01", "push the cube")
    text = "".join(pieces(tokenizer, ids)).replace("▁", " ")
    assert text.startswith(" A chat between a curious user and an artificial intelligence assistant. ")
    assert text.endswith(" USER: What action should the robot take to push the cube? ASSISTANT: ")
    assert pieces(tokenizer, ids)[place] == ["▁push", "▁the", "▁cube"]


def test_prompts_are_padded_on_the_left_and_their_words_marked(tokenizer: FileTokenizer) -> None:
    ids, is_token, is_word = tokenise(("push the pink cube", "Push"), style="openvla", tokenizer=tokenizer, length=200)
    assert bool((ids[~is_token] == 768).all())
    assert is_token.sum(1).tolist() == [ids.shape[1], ids.shape[1] - 3]
    assert bool(is_token[:, -1].all())
    assert pieces(tokenizer, ids[1][is_word[1]].tolist()) == ["▁push"]
    assert pieces(tokenizer, ids[0][is_word[0]].tolist()) == ["▁push", "▁the", "▁pink", "▁cube"]


def test_without_a_token_for_padding_another_stands_there(tmp_path: Path) -> None:
    made = FileTokenizer.open(write_tokenizer(tmp_path / "tokenizer.json", has_pad=False))
    assert made.pad == made.end
    assert made.encode("openvla", "push")[0][-1] == made.empty
    made.require_fits(config())


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("PUSH The\tpink\n cube ", ["▁push", "▁the", "▁pink", "▁cube"]),
        ("push 😀", ["▁push", "▁", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>"]),
        ("push 'the' \"cube\"", None),
        ("für \\ {cube} %s </S", None),
        ("推", None),
    ],
)
def test_odd_letters_are_words_too(tokenizer: FileTokenizer, task: str, words: list[str] | None) -> None:
    for made in (tokenizer, ToyTokenizer()):
        preprocessor(made).require_fits([task])
    ids, _, is_word = tokenise((task,), style="openvla", tokenizer=tokenizer, length=200)
    assert words in (None, pieces(tokenizer, ids[0][is_word[0]].tolist()))
    assert bool(is_word.any())


@pytest.mark.parametrize("task", ["", "  \n\t "])
def test_an_instruction_without_words_is_one_error(tokenizer: FileTokenizer, task: str) -> None:
    for made in (tokenizer, ToyTokenizer()):
        with pytest.raises(ValueError, match=r"^The instruction is empty: OpenVLA acts on what it is told\.$"):
            preprocessor(made).require_fits(["push", task])


def test_a_thousand_letters_are_one_short_error(tokenizer: FileTokenizer) -> None:
    with pytest.raises(
        ValueError, match=r"task 'xxx.*\.\.\.' has 10\d\d tokens, the policy takes 200: shorten"
    ) as found:
        preprocessor(tokenizer).require_fits(["x" * 1000])
    assert len(str(found.value)) < 250
    preprocessor(tokenizer, size=replace(config(), prompt_length=1100)).require_fits(["x" * 1000])


def test_a_token_that_means_an_end_is_no_word(tokenizer: FileTokenizer) -> None:
    for token in ("<s>", "</s>"):
        with pytest.raises(ValueError, match=rf"'push {token}' spells {token}, which is no word: leave it out"):
            preprocessor(tokenizer).require_fits([f"push {token}"])


def test_a_tokenizer_of_another_size_is_refused_with_both_numbers(tmp_path: Path) -> None:
    for has_pad, beside in ((True, " beside <PAD>"), (False, "")):
        path = write_tokenizer(tmp_path / f"{has_pad}.json", size=800, has_pad=has_pad)
        with pytest.raises(
            ValueError, match=rf"has 800 tokens{beside}, the policy was trained with 768: it is another"
        ):
            preprocessor(FileTokenizer.open(path))
    with pytest.raises(ValueError, match="has 800 tokens, the policy was trained with 32000"):
        preprocessor(FileTokenizer.open(path), size=openvla_7b())


def test_a_checkpoint_with_the_tokenizer_of_another_policy_is_not_opened(tmp_path: Path) -> None:
    save_policy(tmp_path / "p", published(tmp_path), provenance={})
    write_tokenizer(tmp_path / "p" / "tokenizer.json", size=760)
    with pytest.raises(ValueError, match="has 760 tokens beside <PAD>, the policy was trained with 768"):
        load_policy(tmp_path / "p")


def test_the_built_in_words_leave_room_for_the_action_tokens() -> None:
    least = vocabulary_size() + 256
    preprocessor(ToyTokenizer(), size=replace(openvla_tiny(), text_vocabulary=least))
    with pytest.raises(ValueError, match=rf"has {vocabulary_size()} tokens, the policy has room for {least - 257}"):
        preprocessor(ToyTokenizer(), size=replace(openvla_tiny(), text_vocabulary=least - 1))
    ids, place = ToyTokenizer().encode("openvla", "push the cube")
    assert ids[place] == [INDEX["push"], INDEX["the"], INDEX["cube"]]
    assert ids[-1] == INDEX["<empty>"]


def test_a_policy_of_an_earlier_edition_still_spells_the_words_that_were_added_since(tmp_path: Path) -> None:
    before, now = open_tokenizer("toy", tmp_path), open_tokenizer(save_tokenizer(ToyTokenizer(), tmp_path), tmp_path)
    ids, place = before.encode("openvla", "apple")
    assert ids[place] == [INDEX[letter] for letter in "apple"]
    ids, place = now.encode("openvla", "apple")
    assert ids[place] == [INDEX["apple"]]
    assert save_tokenizer(before, tmp_path) == "toy"


def test_what_is_no_llama_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a SentencePiece model; give the tokenizer\.json"):
        FileTokenizer.open(tmp_path / "tokenizer.model")
    path = write_tokenizer(tmp_path / "other.json")
    for token, role in (("<s>", "every prompt"), ("</s>", "every answer"), ("▁", "before every action")):
        value = json.loads(write_tokenizer(path).read_text())
        value["model"]["vocab"].pop(token)
        value["model"]["merges"] = []
        value["added_tokens"] = []
        path.write_text(json.dumps(value))
        with pytest.raises(ValueError, match=rf"other\.json' has no token {token}, .*{role}"):
            FileTokenizer.open(path)


def test_a_checkpoint_carries_its_tokenizer(tmp_path: Path) -> None:
    made = published(tmp_path)
    save_policy(tmp_path / "p", made, provenance={})
    (tmp_path / "llama.json").unlink()
    back = load_policy(tmp_path / "p")
    assert back.interface == made.interface
    assert back.interface.tokenizer.encode("openvla", "push") == made.interface.tokenizer.encode("openvla", "push")
    assert all(torch.equal(a, b) for a, b in zip(back.state_dict().values(), made.state_dict().values(), strict=True))
