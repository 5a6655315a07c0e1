"""The tiny policy: its tokenizer loses nothing and spends one token on what never changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from userrl.agents.policy import Policy
from userrl.agents.tiny import EOS, PAD, Shape, new_policy, train_tokenizer
from userrl.core import Action, Episode, Turn
from userrl.gyms.base import find, make
from userrl.render import call_text
from userrl.rollout import run, starts

GYM = make("intention")
TEXTS = [
    "",
    "What is your budget?",
    "  two  spaces, a\ttab and\r\n\n lines ",
    "Gr\u00fc\u00dfe, \u4f60\u597d, \U0001f600 and e\u0301",
    "nul \x00, bell \x07, separator \u2028, private \ue000",
    "transactions and answers: action, answer",
]


@pytest.mark.parametrize("text", [*TEXTS, call_text("action", TEXTS[3]), f"{EOS}\n<|im_start|>user\n{PAD}"])
def test_the_tokenizer_gives_every_text_back(untrained: Policy, text: str) -> None:
    assert untrained.tokenizer.decode(untrained.encode(text)) == text


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=80))
def test_the_tokenizer_gives_any_text_back(_untrained: Policy, text: str) -> None:
    assert _untrained.tokenizer.decode(_untrained.encode(text)) == text


def test_what_never_changes_in_a_gym_is_one_token_each(untrained: Policy) -> None:
    turns = (Turn(Action("action", "What is your budget?"), "100 dollars."), Turn(Action("action", "And the date?"), "Soon."))
    episode = Episode(GYM.tasks("train")[0], turns)
    first, second = untrained.tokens(episode, GYM)
    texts = (episode.task.prompt, turns[0].action.text, turns[0].feedback)
    prompt, question, feedback = (len(untrained.encode(text)) for text in texts)
    assert len(first.context) == 1 + 1 + 1 + prompt + 1 + 1  # system and tool, eos, user, prompt, eos, assistant
    assert len(first.ids) == 1 + 1 + 1 + question + 1 + 1  # call, "action", middle, question, end, eos
    assert len(second.context) == 1 + feedback + 1 + 1 + 1  # result, feedback, its end, eos, assistant
    assert first.ids[-1] == second.ids[-1] == untrained.eos
    assert first.ids[0] == second.ids[0] == untrained.encode(call_text("action", "").split("action")[0])[0]


def test_a_tokenizer_for_two_gyms_knows_the_scaffold_of_both() -> None:
    episodes = [e for name in ("intention", "function") for e in run(played(name), find(name).expert(), find(name).cast())]
    tokenizer = train_tokenizer(episodes, 400)
    policy = new_policy(episodes, Shape(hidden=16, layers=1, heads=2, feed_forward=16, vocabulary=400), seed=0)
    assert tokenizer.get_vocab() == policy.tokenizer.get_vocab()
    for episode in episodes:
        gym = make(episode.task.gym)
        assert len(policy.first_context(episode, gym)) == 5 + len(policy.encode(episode.task.prompt))
        for kind in gym.actions:
            assert len(policy.encode(call_text(kind, ""))) == 4


def played(name: str) -> list[Episode]:
    return list(starts(find(name).tasks("train")[:4]))


def test_the_model_has_the_shape_that_was_asked_for(experts: list[Episode]) -> None:
    shape = Shape(hidden=32, layers=3, heads=4, kv_heads=2, feed_forward=48, window=256, vocabulary=300)
    policy = new_policy(experts, shape, seed=0)
    config = policy.model.config
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (32, 3, 48)
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (4, 2, 8)
    assert policy.window == 256
    assert 300 <= config.vocab_size == len(policy.tokenizer) <= 320
    assert config.tie_word_embeddings and config.eos_token_id == policy.eos == policy.encode(EOS)[0]


def test_weights_depend_on_the_seed_alone(experts: list[Episode]) -> None:
    shape = Shape(hidden=16, layers=1, heads=2, feed_forward=16, vocabulary=300)
    one, same, other = (new_policy(experts, shape, seed).model.state_dict() for seed in (0, 0, 1))
    assert all(one[name].equal(same[name]) for name in one)
    assert not one["model.embed_tokens.weight"].equal(other["model.embed_tokens.weight"])


@pytest.mark.slow
def test_another_process_makes_the_same_tokenizer(tmp_path: Path) -> None:
    """A resumed run trains its tokenizer anew, so it must come out the same."""
    code = (
        "import sys; from userrl.agents.tiny import train_tokenizer; from userrl.gyms.base import make; "
        "from userrl.rollout import run, starts; gym = make('intention'); "
        "episodes = run(starts(gym.tasks('train')[:100]), gym.expert(0.8), gym.cast()); "
        "train_tokenizer(episodes, 800).save_pretrained(sys.argv[1])"
    )
    for name in ("one", "two", "three"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=True)
    texts = {(tmp_path / name / "tokenizer.json").read_bytes() for name in ("one", "two", "three")}
    assert len(texts) == 1
