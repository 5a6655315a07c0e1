"""verl's own SFT data class loads what `userrl sft export` writes: the same ids, the loss on the agent's turns alone."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import pytest

pytest.importorskip("verl", reason="verl has an environment of its own (constraints-verl.txt)")

from omegaconf import OmegaConf
from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset

import templates
from userrl.agents.chat import ChatFormat
from userrl.collect.export import STYLES, export
from userrl.gyms.base import make
from userrl.rollout import run, starts
from userrl.train.parity import check

GYM = make("intention")


@pytest.mark.filterwarnings("default")  # verl's and its libraries' own
@pytest.mark.parametrize("name", ["CHATML", "TRIMMING", "QWEN"])
def test_verl_reads_the_ids_and_the_mask_of_the_local_trainer(name: str, tmp_path: Path) -> None:
    tokenizer = templates.tokenizer(getattr(templates, name))
    chat = ChatFormat(tokenizer)
    episodes = list(run(starts(GYM.tasks("train")[:3], max_turns=3), GYM.expert(0.7), GYM.cast()))
    style = check(chat, episodes, STYLES)
    [file] = export(episodes, tmp_path / "sft.parquet", "messages", style, chat.inert)
    settings = OmegaConf.create({"max_length": 4096, "truncation": "error", "pad_mode": "no_padding"})
    data = MultiTurnSFTDataset([str(file)], tokenizer, settings)
    assert len(data) == len(episodes)
    for episode, row in zip(episodes, data, strict=True):
        turns = chat.tokens(episode, GYM)
        ids = [i for t in turns for i in (*t.context, *t.ids)]
        mask = [own for t in turns for own in [0] * len(t.context) + [1] * len(t.ids)]
        assert row["input_ids"].tolist()[: len(ids)] == ids
        mask += [0] * (len(row["loss_mask"]) - len(ids))  # the last answer, which no one replies to
        for end in accumulate(len(t.context) + len(t.ids) for t in turns):
            mask[end] = 1  # the line break after a reply, on which verl takes the loss, too
        assert row["loss_mask"].tolist() == mask
