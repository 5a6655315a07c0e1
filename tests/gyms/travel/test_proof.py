"""The proof of a travel task: good tasks pass, and each way of breaking one is named."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from userrl.core import Task
from userrl.errors import DataError
from userrl.gyms.travel.generate import task
from userrl.gyms.travel.options import put_cost
from userrl.gyms.travel.preferences import bank
from userrl.gyms.travel.proof import faults, prove

Hidden = dict[str, Any]


def example(*aspects: str) -> Task:
    """The first task with these aspects."""
    family = {1: "22", 2: "22", 3: "333", 4: "2222"}[max(2, len(aspects))]
    made = (task(f"travel-{family}-5-{n}") for n in range(500))
    return next(found for found in made if set(aspects) <= set(found.hidden["aspects"]))


def broken(task: Task, change: Callable[[Hidden], Any]) -> list[str]:
    """What is wrong with a task after a change of its hidden part."""
    hidden = copy.deepcopy(dict(task.hidden))
    change(hidden)
    return list(faults(replace(task, hidden=hidden)))


def options_of(part: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    """The options that the task calls correct, wrong or noise."""

    def sort(option_id: str) -> str:
        reasons = part["why"].get(option_id, [])
        return "correct" if not reasons else "noise" if reasons[0].startswith("noise") else "wrong"

    return [option for option in part["options"] if sort(option["id"]) == kind]


def by_id(part: Mapping[str, Any], option_id: str) -> dict[str, Any]:
    return next(option for option in part["options"] if option["id"] == option_id)


TRIP = example("hotel", "restaurant")
FLIGHT = example("flight", "hotel")


def test_tasks_of_every_family_and_aspect_pass() -> None:
    for family in ("22", "33", "44", "233", "333", "334", "444", "2222"):
        for number in range(4):
            prove(task(f"travel-{family}-5-{number}"))


def hotel(change: Callable[[Hidden], Any]) -> Callable[[Hidden], Any]:
    return lambda hidden: change(hidden["aspects"]["hotel"])


def drop_option(part: Hidden) -> None:
    part["options"].remove(options_of(part, "wrong")[0])


def copy_correct_over_wrong(part: Hidden) -> None:
    wrong = options_of(part, "wrong")[0]
    kept = {name: wrong[name] for name in ("id", "name")}
    wrong.update({**by_id(part, part["best"]), **kept})


def name_the_dearest_best(part: Hidden) -> None:
    part["best"] = max(part["correct"], key=lambda option_id: min(by_id(part, option_id)["cost"]))


def another_at_the_price_of_the_best(part: Hidden) -> None:
    [other, *_] = [option_id for option_id in part["correct"] if option_id != part["best"]]
    by_id(part, other)["cost"] = list(by_id(part, part["best"])["cost"])
    by_id(part, other)["room"] = list(by_id(part, part["best"])["room"])


def raise_the_near_ones(part: Hidden) -> None:
    """So that nothing cheaper misses the first preference alone."""
    for option in options_of(part, "wrong"):
        if part["why"][option["id"]] == [part["preferences"][0]["id"]]:
            option["cost"] = [9_999 + dollars for dollars in option["cost"]]


def raise_the_noise(part: Hidden) -> None:
    for option in options_of(part, "noise"):
        option["cost"] = [9_999 + dollars for dollars in option["cost"]]


def bring_noise_home(part: Hidden) -> None:
    wants = part["arguments"]
    options_of(part, "noise")[0].update({name: wants[name] for name in ("city", "check_in", "check_out")})


def send_a_correct_one_away(part: Hidden) -> None:
    by_id(part, part["correct"][0])["city"] = "Nowhere"


def tell_a_wrong_reason(part: Hidden) -> None:
    part["why"][options_of(part, "wrong")[0]["id"]] = ["P9"]


def call_noise_wrong(part: Hidden) -> None:
    part["why"][options_of(part, "noise")[0]["id"]] = [part["preferences"][0]["id"]]


def forget_a_reason(part: Hidden) -> None:
    del part["why"][options_of(part, "wrong")[0]["id"]]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (drop_option, "'wrong': 9"),
        (copy_correct_over_wrong, "'correct': 5"),
        (name_the_dearest_best, "the best is"),
        (another_at_the_price_of_the_best, "and so does another correct one"),
        (lambda part: part["correct"].pop(), "correct are"),
        (raise_the_near_ones, "one need not know P"),
        (raise_the_noise, "no noise that fulfills all preferences is cheaper"),
        (bring_noise_home, "'noise': 4"),
        (send_a_correct_one_away, "'noise': 6"),
        (tell_a_wrong_reason, "misses"),
        (call_noise_wrong, "is noise, not"),
        (forget_a_reason, "`why` is not about"),
        (lambda part: part["options"][1].update(id=part["options"][0]["id"]), "two options have the same id"),
        (lambda part: part["options"][1].update(name=part["options"][0]["name"]), "two options have the same name"),
        (lambda part: part["options"][0].pop("rating"), "has the fields"),
        (lambda part: part["options"][0].update(secret="x"), "has the fields"),
        (lambda part: part["options"][0].update(cost=[1] * len(part["options"][0]["cost"])), "costs $1"),
        (lambda part: part["arguments"].pop("guests"), "a search must say"),
        (lambda part: part["arguments"].update(check_out=part["arguments"]["check_in"]), "its days are"),
    ],
)
def test_a_task_with_wrong_options_is_caught(change: Callable[[Hidden], Any], problem: str) -> None:
    assert any(problem in fault for fault in broken(TRIP, hotel(change))), broken(TRIP, hotel(change))


def other_key(part: Hidden) -> None:
    first = part["preferences"][0]
    first["key"] = next(key for key, p in bank().items() if p.aspect == "hotel" and key != first["key"])


def same_category_twice(part: Hidden) -> None:
    first, second = part["preferences"][:2]
    second.update({name: value for name, value in first.items() if name != "id"})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda hidden: hidden.update(family="23"), "family '23' is not that of"),
        (lambda hidden: hidden.update(scenario=""), "there is no scenario"),
        (lambda hidden: hidden["aspects"].pop("hotel"), "its aspects are"),
        (lambda hidden: hidden["aspects"].update(apartment=hidden["aspects"]["hotel"]), "its aspects are"),
        (hotel(lambda part: part["preferences"][0].update(id="P7")), "are not P1, P2"),
        (hotel(lambda part: part["preferences"][0].update(text="wants a moat")), "is not the bank's"),
        (hotel(lambda part: part["preferences"][0].update(key="hotel.moat")), "is not the bank's"),
        (hotel(lambda part: part["preferences"][0].update(check={"field": "rating", "at_least": 9.9})), "is not the bank's"),
        (hotel(other_key), "is not the bank's"),
        (hotel(same_category_twice), "two preferences are of the same category"),
        (hotel(lambda part: part["arguments"].update(city="Nowhere")), "several cities"),
        (hotel(lambda part: part["arguments"].update(guests=7)), "several numbers of people"),
    ],
)
def test_a_task_whose_parts_do_not_go_together_is_caught(change: Callable[[Hidden], Any], problem: str) -> None:
    assert any(problem in fault for fault in broken(TRIP, change)), broken(TRIP, change)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda option: option.update(path=[option["path"][0], option["path"][0], option["path"][-1]]), "do not go together"),
        (lambda option: option.update(path=[option["path"][-1], *option["path"][1:]]), "flies"),
        (lambda option: option.update(time=[99.0] * len(option["time"])), "flies"),
    ],
)
def test_a_flight_that_nobody_can_take_is_caught(change: Callable[[dict[str, Any]], Any], problem: str) -> None:
    found = broken(FLIGHT, lambda hidden: change(hidden["aspects"]["flight"]["options"][0]))
    assert any(problem in fault for fault in found), found


def test_an_apartment_without_room_for_all_is_caught() -> None:
    found = broken(example("apartment"), lambda hidden: hidden["aspects"]["apartment"]["options"][0].update(capacity=0))
    assert any("has no room for" in fault for fault in found)


def test_a_meal_whose_price_decides_otherwise_is_caught() -> None:
    import random

    def change(hidden: Hidden) -> None:
        part = hidden["aspects"]["restaurant"]
        put_cost(by_id(part, part["best"]), 999, random.Random(0))

    assert any("the best is" in fault for fault in broken(TRIP, change))


def without(word: str, text: str) -> str:
    return text.replace(word, "somewhere")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda text: text.replace(TRIP.hidden["aspects"]["hotel"]["arguments"]["city"], "somewhere"),
            "does not say that city is",
        ),
        (lambda text: f"{text} We also need a rental car.", "the request names"),
        (lambda text: text.replace("hotel", "inn"), "the request names"),
        (lambda text: f"{text} And two more.", "several numbers of people"),
        (lambda text: f"{text} Or on July 44th.", "other days"),
        (lambda text: f"{text} It is is fine.", "not good English: 'is is'"),
        (lambda text: f"{text} It is for a aunt.", "not good English: 'a a'"),
        (lambda text: f"{text} $name", "not good English"),
        (lambda text: "A hotel and a restaurant, please.", "does not say that check_in is"),
    ],
)
def test_a_request_that_does_not_tell_all_is_caught(change: Callable[[str], str], problem: str) -> None:
    found = list(faults(replace(TRIP, prompt=change(TRIP.prompt))))
    assert any(problem in fault for fault in found), found


def test_the_first_fault_is_raised_with_the_task_that_has_it() -> None:
    hidden = {**TRIP.hidden, "family": "9"}
    with pytest.raises(DataError, match=f"Travel task '{TRIP.id}': family '9' is not that of"):
        prove(replace(TRIP, hidden=hidden))
