"""Tau without a model: what the scripted user understands and says, and how the expert and the baselines fare."""

import asyncio
import json
import random
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from userrl.core import INVALID, Action, Agent, Episode, Query, Task, Turn
from userrl.errors import ReplyError
from userrl.evaluate.conformance import assert_conforms
from userrl.evaluate.hostile import ATTACKS
from userrl.gyms.base import TRAITS, make
from userrl.gyms.tau import airline_expert, retail_expert
from userrl.gyms.tau.listening import HEARD, SAYS, hear, lexicon, mentions, talk
from userrl.gyms.tau.notes import REPORTS, intent_of, read
from userrl.gyms.tau.scripted import reply
from userrl.gyms.tau.slips import another, spoiled
from userrl.gyms.tau.talk import Talk
from userrl.gyms.tau.tools import NAMES, WRITES
from userrl.gyms.tau.world import content
from userrl.llm.replies import render_query
from userrl.rollout import run, starts

GYM = make("tau")
TASKS = {split: GYM.tasks(split) for split in ("train", "validation", "test")}
ALL = [task for tasks in TASKS.values() for task in tasks]


PARAPHRASES = tomllib.loads((Path(__file__).parent / "agent_paraphrases.toml").read_text("utf-8"))


def fact(value: str, says: str) -> dict[str, str]:
    return {"value": value, "says": says}


RETURN = {
    "act": "return",
    "asks": "I want to return something.",
    "facts": {
        "order": fact("#W1111111", "It is order #W1111111."),
        "items": fact("tea set", "The tea set."),
        "method": fact("gift card", "To my gift card, please."),
    },
    "checks": [
        {"right": ["#W1111111"], "wrong": ["#W*"], "says": "It is order #W1111111."},
        {"right": [], "wrong": ["table fan"], "all": ["tea set"], "says": "The tea set."},
        {"right": ["gift card"], "wrong": ["paypal", "credit card"], "says": "To my gift card, please."},
    ],
    "insists": 1,
    "otherwise": False,
}
TOTAL = {**RETURN, "act": "amount", "asks": "How much do I get back?", "facts": {}, "checks": [], "insists": 0}
ME = {
    "email": fact("ada@example.com", "My email is ada@example.com."),
    "name": fact("Ada Lind", "I am Ada Lind."),
    "zip": fact("97301", "My zip code is 97301."),
}


def script(*goals: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "return", "me": ME, "goals": list(goals or (RETURN,))}


def answers(*said: str, trait: str = "plain", goals: Sequence[dict[str, Any]] = ()) -> tuple[str, bool]:
    return talk(script(*goals), said, trait)


PLAN = "I will return the tea set of order #W1111111 and refund 20 dollars to your gift card. Shall I go ahead?"
YES, NO, LOST = SAYS["plain"]["yes"], SAYS["plain"]["no"], SAYS["plain"]["lost"]


# --- the user: questions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("May I have your email address?", "My email is ada@example.com."),
        ("Please share the e-mail on file.", "My email is ada@example.com."),
        ("To find you, could you provide your full name and zip code?", "I am Ada Lind. My zip code is 97301."),
        ("I need the following:\n1. your name\n2. your postal code", "I am Ada Lind. My zip code is 97301."),
        ("Which order is this about?", "It is order #W1111111."),
        ("What is the order ID, and which items do you want to return?", "It is order #W1111111. The tea set."),
        ("How would you like to receive the refund?", "To my gift card, please."),
        ("Which payment method should I use?", "To my gift card, please."),
    ],
)
def test_the_user_tells_what_is_asked_and_nothing_else(question: str, told: str) -> None:
    assert answers(question) == (told, False)


def test_a_user_that_is_terse_tells_the_bare_value() -> None:
    assert answers("What is your name and zip code?", trait="terse") == ("Ada Lind. 97301.", False)
    assert answers("Which items?", trait="terse") == ("tea set.", False)


def test_what_is_only_told_is_not_asked() -> None:
    assert answers("The refund goes to your email and your order number is on the items.") == (LOST, False)


@pytest.mark.parametrize("question", ["What is your date of birth?", "Which cabin do you prefer?", "What is the reason?"])
def test_the_user_makes_nothing_up(question: str) -> None:
    assert answers(question) == (SAYS["plain"]["unknown"], False)


def test_a_hesitant_user_hesitates_once_about_its_wish_but_not_about_its_name() -> None:
    assert answers("What is your email?", trait="hesitant") == ("My email is ada@example.com.", False)
    first = ("Which order is it?",)
    assert answers(*first, trait="hesitant") == (SAYS["plain"]["hesitates"], False)
    assert answers(*first, *first, trait="hesitant") == ("It is order #W1111111.", False)
    assert answers(*first, PLAN, trait="hesitant") == (YES, False)


def test_a_pause_gets_a_nod_an_open_question_the_wish_and_noise_a_question() -> None:
    assert answers("One moment, please.") == (SAYS["plain"]["nod"], False)
    assert answers("Hello! How can I help you today?") == ("I want to return something.", False)
    assert answers("Blue bananas fly low.") == (LOST, False)


# --- the user: plans -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        "So you want to return the tea set, refund to your gift card. Is that correct?",
        "The tea set goes back as a return, and 20 dollars to your gift card. OK?",
        "- Return: tea set\n- Refund: gift card\nDo you confirm (yes/no)?",
        "I'll process the return. Please note that it cannot be changed afterwards. Would you like me to proceed?",
    ],
)
def test_the_user_confirms_a_plan_that_is_right(plan: str) -> None:
    assert answers(plan) == (YES, False)


@pytest.mark.parametrize(
    ("plan", "correction"),
    [
        ("I will return the tea set of order #W2222222. Shall I go ahead?", "It is order #W1111111."),
        ("I will return the tea set and the table fan. Shall I go ahead?", "The tea set."),
        ("I will return the tea set and refund to your PayPal account. Do you confirm?", "To my gift card, please."),
    ],
)
def test_the_user_corrects_a_wrong_plan_once(plan: str, correction: str) -> None:
    assert answers(plan) == (f"{NO} {correction}", False)
    assert answers(plan, plan) == (YES, False)


def test_a_plan_that_leaves_a_part_out_is_wrong() -> None:
    both = {**RETURN, "checks": [{"right": [], "wrong": [], "all": ["tea set", "apron"], "says": "The tea set and the apron."}]}
    assert answers("I will return the apron. Shall I go ahead?", goals=[both]) == (f"{NO} The tea set and the apron.", False)
    assert answers("I will return both items. Shall I go ahead?", goals=[both]) == (YES, False)


def test_the_user_agrees_to_nothing_that_is_not_its_wish() -> None:
    assert answers("Shall I cancel everything?") == (SAYS["plain"]["plan"], False)
    assert answers("Do you confirm?") == (SAYS["plain"]["plan"], False)


def test_which_is_a_question_and_shall_i_is_a_plan() -> None:
    assert not hear("For the return, which payment method should I use?").confirms
    assert hear("Should I return it?").confirms


# --- the user: the end ---------------------------------------------------------------------------------------------


def test_the_talk_ends_when_the_last_wish_is_done() -> None:
    done = "I have requested the return. Is there anything else?"
    assert answers(PLAN, done) == (SAYS["plain"]["no_more"], True)
    assert answers(PLAN, "Your return request has been submitted.") == (SAYS["plain"]["end"], True)
    assert answers(PLAN, "Is there anything else?") == (SAYS["plain"]["no_more"], True)


def test_the_user_asks_again_for_what_it_never_agreed_to() -> None:
    words, ends = answers("Is there anything else I can do for you?")
    assert words.endswith("I want to return something.") and not ends


def test_the_user_believes_a_report_without_a_plan_since_it_does_not_grade() -> None:
    assert answers("I have returned the tea set.")[1]


def test_one_wish_comes_after_the_other() -> None:
    words, ends = answers(PLAN, "The return is requested.", goals=[RETURN, TOTAL])
    assert words == "Thank you. How much do I get back?" and not ends
    assert answers(PLAN, "The return is requested.", "It is 20.50 dollars in total.", goals=[RETURN, TOTAL])[1]


def test_a_number_counts_only_beside_what_it_is_about() -> None:
    for words in ("It is done, 7 times.", "Did you mean 20 dollars?", "A refund takes a while."):
        assert not talk(script(TOTAL), [words])[1], words
    for words in ("The refund is 1,020.50 dollars.", "$1,020.50.", "You will get 20 dollars back"):
        assert talk(script(TOTAL), [words])[1], words


def test_a_refusal_is_taken_after_as_many_pushes_as_the_user_makes() -> None:
    no = "I am sorry, but I cannot do that. It is against our policy."
    assert answers(no) == (SAYS["plain"]["push"], False)
    assert answers(no, no) == (SAYS["plain"]["given_up"], True)
    assert answers(no, goals=[{**RETURN, "insists": 0}])[1]


@pytest.mark.parametrize(
    "refusal",
    [
        "Unfortunately, since the order has already shipped, it can't be returned.",
        "Our policy doesn’t allow this.",
        "I'm unable to return it. Shall I cancel it instead?",
        "That is not possible, I'm afraid.",
    ],
)
def test_refusals_are_understood(refusal: str) -> None:
    assert answers(refusal) == (SAYS["plain"]["push"], False)


def test_what_is_asked_beside_a_refusal_is_answered() -> None:
    assert answers("I cannot find you by that. What is your zip code?") == ("My zip code is 97301.", False)


def test_a_wish_for_the_case_of_a_refusal_comes_only_then() -> None:
    second = {**RETURN, "asks": "Then cancel it.", "act": "cancel", "otherwise": True}
    eager = {**RETURN, "insists": 0}
    assert answers("I cannot do that.", goals=[eager, second]) == ("I see. Then cancel it.", False)
    assert answers(PLAN, "I have returned it.", goals=[eager, second])[1]


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_no_attack_ends_the_talk_or_gets_a_yes(attack: str) -> None:
    for goals in ([RETURN], [TOTAL], [{**RETURN, "insists": 0}]):
        words, ends = answers(ATTACKS[attack], goals=goals)
        assert not ends and words != YES
    assert answers("What is your email?", f"Which order?\n{ATTACKS[attack]}")[1] is False


@pytest.mark.parametrize("message", PARAPHRASES["asks"], ids=lambda message: message["said"][:40])
def test_questions_are_understood_in_other_words(message: dict[str, Any]) -> None:
    heard = hear(message["said"])
    assert set(message["topics"]) <= {*heard.asked, *heard.offered} and not heard.refuses and not heard.reports


@pytest.mark.parametrize("does", ["plans", "refusals", "reports"])
def test_plans_refusals_and_reports_are_understood_in_other_words(does: str) -> None:
    for message in PARAPHRASES[does]:
        heard = hear(message["said"])
        plans = heard.confirms and mentions(heard.text, lexicon()["acts"]["cancel"]) and not heard.refuses
        assert {"plans": plans, "refusals": heard.refuses, "reports": heard.reports}[does], message["said"]


def test_only_the_beginning_of_a_flood_is_heard() -> None:
    assert answers("x" * HEARD + " I have returned it.") == (LOST, False)


def test_every_phrase_of_a_list_is_heard_alone() -> None:
    words = lexicon()
    phrases = words["no"]["refuse"] + words["no"]["forbid"] + words["end"]["closing"]
    assert all(mentions(phrase.replace("*", "s"), [phrase]) for phrase in phrases)
    for topic, phrases in words["topics"].items():
        for phrase in phrases:
            heard = hear(f"Please tell me: {phrase.replace('*', '').replace('...', '')}")
            assert topic in heard.asked + heard.offered, (topic, phrase)


def test_a_task_without_a_script_needs_a_model() -> None:
    query: Query[Talk] = Query("tau.talk", Talk, "", {"script": {}, "transcript": [{"who": "agent", "text": "Hello."}]})
    with pytest.raises(ReplyError, match=r"must be|Give a model"):
        reply(query, "plain")


def test_a_model_in_the_users_seat_gets_the_instruction_and_not_the_script() -> None:
    seen: list[Query[Any]] = []

    class Listener:
        async def answer(self, query: Query[Any]) -> Any:
            seen.append(query)
            return Talk(text="Bye.", ends=True)

    task = TASKS["test"][0]
    cast = replace(GYM.cast(), user=Listener())
    [episode] = run(starts([task]), GYM.expert(), cast)
    assert episode.stop == "done"
    prompt = render_query(seen[0])[1]["content"]
    assert task.hidden["instruction"] in prompt and '"checks"' not in prompt and "insists" not in prompt


# --- the expert ----------------------------------------------------------------------------------------------------


def score(agent: Agent, tasks: Sequence[Task], trait: str = "plain") -> float:
    episodes = run(starts(tasks), agent, GYM.cast(trait))
    assert all(episode.stop != "error" for episode in episodes)
    return sum(sum(episode.rewards) for episode in episodes) / len(episodes)


@pytest.mark.parametrize("trait", TRAITS)
def test_the_expert_serves_nearly_every_user(trait: str) -> None:
    assert score(GYM.expert(), TASKS["test"], trait) >= 0.99


def test_the_expert_proves_that_the_users_words_determine_what_has_to_be_done() -> None:
    """It sees the talk alone and reaches the ground truth of every task, within the turn limit."""
    assert score(GYM.expert(), ALL) == 1.0


def test_the_expert_talks_before_it_writes_and_writes_only_after_a_yes() -> None:
    for episode in run(starts(TASKS["test"]), GYM.expert(), GYM.cast()):
        for before, turn in zip(episode.turns, episode.turns[1:], strict=False):
            call = turn.facts.get("call")
            if call and call["name"] in WRITES:
                assert before.feedback == YES, episode.task.id


def test_the_expert_looks_the_tools_up_first_and_makes_no_call_that_fails_but_to_find_an_account() -> None:
    for episode in run(starts(TASKS["test"]), GYM.expert(), GYM.cast()):
        assert episode.turns[0].label == "tools"
        assert {turn.label for turn in episode.turns} <= {"tools", "talk", "read", "write", "user_ended", "transfer"}


def test_skill_is_a_dial() -> None:
    scores = [score(GYM.expert(skill), TASKS["test"][::2]) for skill in (0.0, 0.5, 0.8, 1.0)]
    assert scores == sorted(scores)
    assert scores[0] < 0.25 < scores[1] < 0.55 < scores[2] < 0.9 < scores[3]


def test_the_expert_does_not_look_at_what_is_hidden() -> None:
    [episode] = run(starts(TASKS["test"][:1]), GYM.expert(), GYM.cast())
    for number, turn in enumerate(episode.turns):
        blind = replace(episode, task=replace(episode.task, hidden={}), turns=episode.turns[:number], stop="running")
        [move] = [run_one(GYM.expert(), blind)]
        assert move == turn.action


def run_one(agent: Agent, episode: Episode) -> Action:
    return asyncio.run(agent.act(episode))


def test_the_expert_hands_over_when_nobody_makes_sense() -> None:
    class Babbler:
        async def answer(self, query: Query[Any]) -> Any:
            return Talk(text="Blub.", ends=False)

    [episode] = run(starts(TASKS["test"][:1]), GYM.expert(), replace(GYM.cast(), user=Babbler()))
    assert episode.turns[-1].label == "transfer"


def test_every_way_to_bring_a_wish_up_is_understood_by_the_expert() -> None:
    retail = {"exchange": "items", "modify": "items", "amount": "amount"}
    airline = {"cancel_trip": "cancel", "flights": ("flights", "destination"), "amount": "amount"}
    for task in ALL:
        known, desk = (retail, retail_expert) if task.hidden["domain"] == "retail" else (airline, airline_expert)
        for goal in task.hidden["script"]["goals"]:
            assert intent_of(goal["asks"], desk.INTENTS) in known.get(goal["act"], (goal["act"],)), goal["asks"]


def test_users_never_push_in_words_that_bring_a_wish_up() -> None:
    for says in SAYS.values():
        for text in says.values():
            assert not intent_of(text, retail_expert.INTENTS) and not intent_of(text, airline_expert.INTENTS), text


def test_the_notes_take_any_text_for_a_call_or_a_result() -> None:
    [task] = TASKS["test"][:1]
    junk = [Action("answer", text) for text in ("", "{", "[]", '{"name": 1, "arguments": 2}', '{"arguments": {}}')]
    episode = Episode(task)
    for action in [*junk, Action(INVALID), Action("search", "tools")]:
        episode = episode.play(Turn(action, "Error: no."))
    assert read(episode, retail_expert.INTENTS).user_id == ""


# --- slips and baselines -------------------------------------------------------------------------------------------


def test_a_spoiled_call_differs_in_one_argument() -> None:
    [task] = [task for task in TASKS["test"] if task.hidden["script"]["kind"] == "return"][:1]
    [episode] = run(starts([task]), GYM.expert(), GYM.cast())
    notes = read(episode, retail_expert.INTENTS)
    [write] = [turn.action for turn in episode.turns if turn.label == "write"]
    right = json.loads(write.text)["arguments"]
    for seed in range(20):
        wrong = json.loads(spoiled(write, notes, random.Random(seed)).text)["arguments"]
        assert sum(right[name] != wrong[name] for name in right) <= 1


def test_the_tools_that_are_reported_are_those_that_write() -> None:
    assert set(REPORTS) == WRITES - {"transfer_to_human_agents", "think"}
    assert set(REPORTS) <= {name for names in NAMES.values() for name in names}


def test_some_arguments_cannot_be_mistaken() -> None:
    notes = read(Episode(TASKS["test"][0]), retail_expert.INTENTS)
    assert another("insurance", "yes", notes, random.Random(0)) is None
    assert another("order_id", "#W1", notes, random.Random(0)) is None


def test_the_baselines_earn_what_is_had_for_nothing() -> None:
    tasks = TASKS["test"]
    free = sum(GYM.idle(task) or 0.0 for task in tasks) / len(tasks)
    assert 0.1 < free < 0.25
    agents = GYM.baselines()
    assert set(agents) == {"random", "do_nothing", "refuse_all"}
    assert score(agents["do_nothing"], tasks) == free == score(agents["refuse_all"], tasks)
    assert score(agents["random"], tasks) <= free


def test_the_gym_conforms_with_users_of_every_trait() -> None:
    sample = [task for domain in ("retail", "airline") for task in TASKS["test"] if task.hidden["domain"] == domain][:40:20]
    for trait in TRAITS:
        assert assert_conforms("tau", tasks=sample, cast=GYM.cast(trait)).episodes > len(sample)


def test_the_wordings_have_no_slot_that_nobody_fills() -> None:
    for task in ALL:
        text = json.dumps(task.hidden) + task.prompt
        assert "{" not in task.hidden["instruction"] + task.prompt
        assert "{value}" not in text and "{item}" not in text
    assert content("phrases")["manner"]["phrases"]
