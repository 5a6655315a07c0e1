"""Episodes on disk: what a crash, a full disk or another run's settings may not spoil."""

import dataclasses
import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from userrl import store
from userrl.core import INVALID, Action, Episode, Task, Tokens, Turn
from userrl.errors import DataError, ResumeError, StoreError
from userrl.store import SCHEMA, RunFolder, Store, dump, fingerprint, from_record, read, set_aside, to_record, write_whole

TASK = Task("t1", "toy", "Grüße \u2028 \N{GRINNING FACE}", {"secret": "x", "list": [1, {"a": None}]})


def episode(attempt: int = 0) -> Episode:
    start = Episode(TASK, attempt=attempt, seed=3, max_turns=4, rules={"compat": "userrl"})
    tokens = Tokens((1, 2), (3, 4), (-0.25, -1.5))
    spoken = Turn(Action("action", "hi", raw="<hi>", note="n", tokens=tokens), "yo", 0.5, label="hint", reveals=("x",))
    garbled = Turn(Action(INVALID, raw="\ud800", problem="what?"), "", facts={"seen": [1, 2]})
    return start.play(spoken).play(garbled)


def written(path: Path, count: int = 3) -> list[Episode]:
    episodes = [episode(i) for i in range(count)]
    with Store(path) as store:
        for e in episodes:
            store.append(e)
    return episodes


def test_an_episode_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "episodes.jsonl"
    failed = episode(7).fail("judge: no reply")
    assert [*written(path), failed][:3] == list(read(path))
    with Store(path) as store:
        store.append(failed)
    assert list(read(path))[3] == failed
    assert len(path.read_bytes().splitlines()) == 4


def test_token_ids_are_left_out_on_request_and_nothing_else() -> None:
    bare = from_record(json.loads(json.dumps(to_record(episode(), tokens=False))))
    first = episode().turns[0]
    without = dataclasses.replace(first, action=dataclasses.replace(first.action, tokens=None))
    assert bare.turns == (without, episode().turns[1])


def test_a_torn_last_line_is_passed_over_and_moved_aside_when_writing_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    episodes = written(path)
    whole = path.read_bytes()
    torn = whole[:100]
    path.write_bytes(whole + torn)
    assert list(read(path)) == episodes
    with Store(path) as store:
        assert path.read_bytes() == whole
        store.append(episode(3))
    assert list(read(path)) == [*episodes, episode(3)]
    assert path.with_name("episodes.jsonl.torn").read_bytes() == torn + b"\n"


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_a_torn_line_is_found_from_the_end_in_parts_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(store, "TAIL", size)
    path = tmp_path / "lines.jsonl"
    for whole, torn, kept in ((b"", b'{"a', b""), (b"[1]\n[2]\n", b'{"a', b"[1]\n[2]\n"), (b"[1]\n", b"[23]", b"[1]\n[23]\n")):
        path.write_bytes(whole + torn)
        with Store(path):
            assert path.read_bytes() == kept
    assert path.with_name("lines.jsonl.torn").read_bytes() == b'{"a\n{"a\n'


def test_torn_bytes_of_several_crashes_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    for torn in (b'{"schema": 1', b'{"sch'):
        with path.open("ab") as file:
            file.write(torn)
        with Store(path):
            assert path.read_bytes() == b""
    assert path.with_name("episodes.jsonl.torn").read_bytes() == b'{"schema": 1\n{"sch\n'


def test_a_whole_record_that_lacks_only_its_line_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    episodes = written(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert list(read(path)) == episodes
    with Store(path) as store:
        store.append(episode(3))
    assert list(read(path)) == [*episodes, episode(3)]
    assert not path.with_name("episodes.jsonl.torn").exists()


def broken(change: Any) -> bytes:
    record = to_record(episode())
    change(record)
    return json.dumps(record).encode()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{oops", "Expecting property name"),
        (b'{"schema": "\xff"}', "utf-8"),
        (b"[]", "not an episode record"),
        (broken(lambda r: r.pop("turns")), "field 'turns' is missing"),
        (broken(lambda r: r["task"].update(extra=1)), "extra"),
        (broken(lambda r: r["turns"][0].pop("feedback")), "feedback"),
        (broken(lambda r: r.update(schema=SCHEMA + 1)), f"schema is {SCHEMA + 1}; this version of userrl reads up to {SCHEMA}"),
    ],
)
def test_a_broken_line_in_the_middle_is_named_with_file_line_and_field(tmp_path: Path, line: bytes, problem: str) -> None:
    path = tmp_path / "episodes.jsonl"
    written(path)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], line, lines[2], b""]))
    episodes = read(path)
    assert next(episodes) == episode(0)
    with pytest.raises(DataError) as caught:
        next(episodes)
    assert f"{path}, line 2: not an episode record" in str(caught.value)
    assert problem in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"Cannot read .*nowhere\.jsonl: No such file or directory"):
        list(read(tmp_path / "nowhere.jsonl"))


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")])
def test_a_read_only_folder_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def refuse(*args: object) -> int:
        raise error

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreError, match=rf"episodes.jsonl: {error.strerror}.*choose a writable folder with --out"):
        Store(tmp_path / "episodes.jsonl").__enter__()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(StoreError, match=r"Cannot write .*file.*episodes.jsonl"), Store(tmp_path / "file" / "episodes.jsonl"):
        pass


def test_a_disk_that_fills_up_within_a_record_leaves_all_earlier_records_intact(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    written(path)
    whole = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Store(path) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 50, hard))
        try:
            with pytest.raises(StoreError, match=r"Records written so far are intact.*--resume"):
                store.append(episode(3))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == whole
        store.append(episode(4))
    assert [e.attempt for e in read(path)] == [0, 1, 2, 4]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_target_that_can_neither_be_written_nor_cut_is_still_reported_as_full(tmp_path: Path) -> None:
    path = tmp_path / "episodes.jsonl"
    path.symlink_to("/dev/full")
    with pytest.raises(StoreError, match="No space left on device"), Store(path) as store:
        store.append(episode())


def test_a_disk_that_fails_at_the_last_flush_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: int) -> None:
        raise OSError(28, "No space left on device")

    store = Store(tmp_path / "episodes.jsonl").__enter__()
    store.append(episode())
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="No space left on device"):
        store.__exit__(None, None, None)


def test_a_store_that_is_not_open_takes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not open; use `with Store"):
        Store(tmp_path / "episodes.jsonl").append(episode())


def test_a_whole_file_is_replaced_or_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dump(tmp_path / "best.jsonl", [episode(0), episode(1)])
    assert list(read(path)) == [episode(0), episode(1)]

    def fail(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=r"Cannot write .*best\.jsonl: No space left on device"):
        write_whole(path, b"new")
    assert list(read(path)) == [episode(0), episode(1)]


# --- the folder of a run -------------------------------------------------------------------------------------

CONFIG = {"gym": "toy", "train": {"gamma": 0.8, "steps": 10}, "splits": ("train", "test")}


def test_a_run_folder_is_resumed_with_the_settings_it_was_made_with(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", CONFIG, resume=False)
    assert folder.episodes() == []
    with folder.store() as store:
        store.append(episode())
    assert RunFolder(tmp_path / "run", CONFIG, resume=True).episodes() == [episode()]


def test_a_run_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    RunFolder(tmp_path, CONFIG, resume=False)
    with pytest.raises(StoreError, match=r"already holds a run. Add --resume"):
        RunFolder(tmp_path, CONFIG, resume=False)


def test_resuming_with_other_settings_says_which_differ(tmp_path: Path) -> None:
    RunFolder(tmp_path, CONFIG, resume=False)
    other = {"gym": "toy", "train": {"gamma": 0.9, "steps": 10}, "splits": ["train"], "seed": 1}
    with pytest.raises(ResumeError) as caught:
        RunFolder(tmp_path, other, resume=True)
    assert "train.gamma was 0.8, now 0.9" in str(caught.value)
    assert "splits was ['train', 'test'], now ['train']" in str(caught.value)
    assert "seed was None, now 1" in str(caught.value)
    assert "steps" not in str(caught.value)


def test_settings_that_cannot_be_read_are_named_when_resuming(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{", "utf-8")
    with pytest.raises(ResumeError, match=r"Cannot read .*config.json"):
        RunFolder(tmp_path, CONFIG, resume=True)


def test_a_fingerprint_tells_names_and_contents_apart_and_passes_over_hidden_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("1", "utf-8")
    (folder / "sub" / "b").write_text("2", "utf-8")
    seen = [fingerprint(folder)]
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("3", "utf-8")
    assert fingerprint(folder) == seen[0] == fingerprint(folder.rename(tmp_path / "moved"))
    folder = tmp_path / "moved"
    for change in (
        lambda: (folder / "a").write_text("2", "utf-8"),
        lambda: (folder / "a").rename(folder / "c"),
        lambda: (folder / "sub" / "b").rename(folder / "b"),
        lambda: (folder / "empty").touch(),
    ):
        change()
        seen.append(fingerprint(folder))
    assert len(set(seen)) == 5 and all(len(s) == 64 for s in seen)
    assert fingerprint(folder / "b") == fingerprint(folder / "c") != fingerprint(folder / "empty")


def test_lines_set_aside_are_moved_and_none_is_lost(tmp_path: Path) -> None:
    path, redone = tmp_path / "log.jsonl", tmp_path / "log.jsonl.redone"
    set_aside(path, 0)
    path.write_bytes(b"1\n2\n3\n4")
    for keep in (4, 9):
        set_aside(path, keep)
    assert path.read_bytes() == b"1\n2\n3\n4" and not redone.exists()
    set_aside(path, 3)
    assert (path.read_bytes(), redone.read_bytes()) == (b"1\n2\n3\n", b"4\n")
    set_aside(path, 1)
    assert (path.read_bytes(), redone.read_bytes()) == (b"1\n", b"4\n2\n3\n")
    set_aside(path, 0)
    assert (path.read_bytes(), redone.read_bytes()) == (b"", b"4\n2\n3\n1\n")
