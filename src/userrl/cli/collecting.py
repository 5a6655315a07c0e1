"""The commands sft collect, sft select, sft report and sft export."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from userrl.calls import Calls
from userrl.cli.evaluating import Bounds, check_begun, counted, headline, kept, seated, show_cost
from userrl.cli.show import LEGEND, Watch, mix_text, new_table, out, print_summaries, progress, safe, say, short, tell
from userrl.collect import Selection, report
from userrl.collect.export import Format, Style, export
from userrl.collect.report import Count, Quality
from userrl.collect.run import CollectJob, SelectJob, load, played, screen, select_again
from userrl.collect.run import collect as run_collect
from userrl.collect.select import Unplayed, Why
from userrl.config import pairs, resolve
from userrl.core import Episode
from userrl.errors import ConfigError, needs
from userrl.evaluate.metrics import action_mix, summarize

REASONS: Mapping[str, tuple[Why, ...]] = {
    "beaten by better ones": ("beaten",),
    "with an invalid action": ("invalid",),
    "failed": ("failed",),
    "below the least share": ("below",),
    "on held-out tasks": ("held-out id", "held-out prompt", "held-out errand", "held-out hidden"),
    "duplicates": ("duplicate",),
    "near-duplicates": ("near-duplicate",),
    "beyond the mixture": ("mix",),
}
ALWAYS = 3
"""The first so many reasons are named even when there is none of them."""
QUALITY = (
    "least, 10%, 50%, 90%: quantiles of the share of the best score; turns: median; chars: thousands that the agent wrote, "
    "and their part of all"
)


def collect(
    folder: Path, config: Path | None, flags: Mapping[str, Any], resume: bool, bounds: Bounds, tokenizer: Path | None
) -> None:
    job = resolve(CollectJob, config, with_mix(flags))
    count = counter(tokenizer)
    check_begun(folder, resume)
    with kept(folder), progress() as watch:
        calls, selection = asyncio.run(_collect(job, folder, resume, bounds, watch))
    summaries = summarize(selection.kept)
    if summaries:
        print_summaries([(job.agent, s) for s in summaries], f"Kept episodes of {headline(job, summaries)}")
        out.print(safe(f"{LEGEND}\n", "dim"))
    show_selection(folder, selection, count)
    show_thinned(played([folder]), selection)
    show_cost(calls)
    show_next(folder, selection)


async def _collect(job: CollectJob, folder: Path, resume: bool, bounds: Bounds, watch: Watch) -> tuple[Calls, Selection]:
    calls, unplayed = bounds.calls(job), screen(job, folder)
    tell_unplayed(unplayed)
    async with AsyncExitStack() as stack:
        agent, cast = await seated(job, stack, calls)
        note = counted(f"collect {short(job.agent)}", job, watch, calls, folder, len(unplayed))
        options = {"on_end": note, "calls": calls, "screened": unplayed, **bounds.play()}
        return calls, await run_collect(job, agent, cast, folder, resume=resume, **options)


def tell_unplayed(unplayed: Sequence[Unplayed]) -> None:
    """Which tasks are not played, before the others are."""
    for gym, count in Counter(one.gym for one in unplayed).items():
        first = next(one for one in unplayed if one.gym == gym)
        tell(
            f"Not played: {count} task{'s' if count > 1 else ''} of {gym}, held out or like a held-out one (such as "
            f"{first.task}, like {first.like}); --play-held-out plays them all the same.",
            "yellow",
        )


def select(folder: Path, config: Path | None, flags: Mapping[str, Any], tokenizer: Path | None) -> None:
    job = resolve(SelectJob, config, with_mix(flags))
    count = counter(tokenizer)
    show_selection(folder, selection := select_again(job, folder), count)
    show_thinned(played(job.runs), selection)
    show_next(folder, selection)


def show_selection(folder: Path, selection: Selection, count: Count | None) -> None:
    """What was kept and what not, and the report of it; with tokens, the one on disk is written anew."""
    rows = report.quality_of(selection, count)
    if count is not None:
        report.write(folder, rows)
    show_quality(rows)
    told = [(why, selection.count(*reasons)) for why, reasons in REASONS.items()]
    left = ", ".join(f"{n} {why}" for i, (why, n) in enumerate(told) if n or i < ALWAYS)
    unplayed = len(selection.unplayed)
    more = f"; not played {unplayed} task{'s' if unplayed > 1 else ''}, held out or like one that is" if unplayed else ""
    out.print(safe(f"Kept {len(selection.kept)}; left out {left}{more}"), soft_wrap=True)
    if any(row.kept for row in rows):
        out.print(safe(f"Data: {folder / 'selected.jsonl'}; report: {folder / report.FILE}", "dim"), soft_wrap=True)


def show_thinned(episodes: Sequence[Episode], selection: Selection) -> None:
    """What the actions were before and after most episodes were left out as duplicates.

    Of equal episodes one stays, while each slip makes an episode of its own: so slips gain weight.
    """
    doubles = selection.count("duplicate", "near-duplicate")
    if not selection.kept or 2 * doubles <= len(selection.kept) + len(selection.left):
        return
    out.print(safe("Most episodes were left out as duplicates: what the agent does before and after", "bold"))
    for gym in dict.fromkeys(e.task.gym for e in selection.kept):
        for name, those in (("all", episodes), ("kept", selection.kept)):
            mix = action_mix([e for e in those if e.task.gym == gym and e.stop != "error"])
            say(f"{gym}, {name}", safe(mix_text(mix)), "", width=len(gym) + 8)
    tell("Where slips have gained weight: --min-share leaves them out, --near 0 keeps duplicates.", "yellow")


def show_next(folder: Path, selection: Selection) -> None:
    if selection.kept:
        out.print(safe(f"Next: userrl sft train --data {folder}", "dim"), soft_wrap=True)


def show_report(folder: Path) -> None:
    """The report beside a data set."""
    rows = report.read(folder)
    show_quality(rows)
    table = new_table("Left out")
    reasons = [why for why, named in REASONS.items() if any(row.left.get(name) for row in rows for name in named)]
    for name in ("gym", "episodes", "kept"):
        table.add_column(name, justify="left" if name == "gym" else "right")
    for why in reasons:
        table.add_column(why, justify="right", max_width=12)
    if unplayed := any(row.unplayed for row in rows):
        table.add_column("tasks not played", justify="right", max_width=12)
    for row in rows:
        counts = [str(sum(row.left.get(name, 0) for name in REASONS[why])) for why in reasons]
        counts += [str(row.unplayed)] if unplayed else []
        table.add_row(safe(row.gym), str(row.episodes), str(row.kept), *counts)
    out.print(table)


def show_quality(rows: Sequence[Quality]) -> None:
    """The kept episodes in figures, within 80 columns."""
    full = [row for row in rows if row.kept]
    if not full:
        return
    table = new_table("The kept episodes")
    table.add_column("gym")
    for name in ("episodes", "tasks", "least", "10%", "50%", "90%", "turns", "chars", *(["tokens"] if full[0].tokens else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for row in full:
        shares = (f"{row.share[level]:.2f}" for level in ("0", "0.1", "0.5", "0.9"))
        chars = f"{row.agent_chars / 1000:.0f} ({row.agent_chars / row.chars:.0%})"
        tokens = [f"{(row.agent_tokens or 0) / 1000:.0f} of {row.tokens / 1000:.0f}k"] if row.tokens else []
        table.add_row(safe(row.gym), str(row.kept), str(row.tasks), *shares, f"{row.turns['0.5']:g}", chars, *tokens)
    out.print(table)
    out.print(safe(QUALITY, "dim"))
    for row in full:
        say(row.gym, safe(mix_text(dict(row.mix)) or mix_text(dict(row.choices))), "", width=max(len(r.gym) for r in full) + 2)


def export_data(
    data: Sequence[Path], file: Path, format: Format, calls: str | None, tool: str | None, model: Path | None
) -> None:
    episodes = [episode for source in data for episode in load(source)]
    given = {name: value for name, value in (("calls", calls), ("tool", tool)) if value is not None}
    style, inert = Style(**given), None  # type: ignore[arg-type]
    if model is not None and episodes:
        with needs("local", "Export for a model"):
            from userrl.train.parity import check, read_chat
        chat = read_chat(model)
        style, inert = check(chat, episodes, *([[style]] if given else [])), chat.inert
    files = export(episodes, file, format, style, inert)
    place = "column `tools`" if style.tool == "column" else "system message"
    what = f"{len(episodes)} episodes, calls {'as text' if style.calls == 'text' else 'native'}, the tool in the {place}"
    out.print(safe(f"{what}: {', '.join(map(str, files))}"), soft_wrap=True)
    if model is not None and format == "messages":
        out.print(safe(f"With the chat template of {model}, its tokens are those of `userrl sft train`."), soft_wrap=True)


def counter(tokenizer: Path | None) -> Count | None:
    """Counts an episode's tokens with the tokenizer in a model's folder."""
    if tokenizer is None:
        return None
    with needs("local", "Counting tokens"):
        from userrl.train.parity import read_chat
    from userrl.gyms.base import gym_of

    chat = read_chat(tokenizer)

    def count(episode: Episode) -> tuple[int, int]:
        turns = chat.tokens(episode, gym_of(episode))
        own = sum(len(t.ids) for t in turns)
        return own, own + sum(len(t.context) for t in turns)

    return count


def with_mix(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags, with the words "gym=weight" of --mix as a table. Raises ConfigError."""
    if not (words := flags.get("mix")):
        return {**flags, "mix": None}
    form = "GYM=WEIGHT, as in --mix intention=2 --mix turtle=1"
    mix = {}
    for gym, weight in pairs("--mix", words, form).items():
        try:
            mix[gym] = float(weight)
        except ValueError:
            raise ConfigError(f"--mix is '{gym}={weight}'; expected {form}.") from None
    return {**flags, "mix": mix}
