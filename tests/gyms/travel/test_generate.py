"""Travel tasks: proven, varied, in the official proportions, made one by one, and no use to who does not ask."""

import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from userrl.core import Task
from userrl.data import split_of
from userrl.data.made import Made
from userrl.data.sets import digest
from userrl.errors import ConfigError, UnknownName
from userrl.gyms.base import find
from userrl.gyms.travel import generate
from userrl.gyms.travel.generate import FAMILIES, ids, shares, task
from userrl.gyms.travel.listening import matching
from userrl.gyms.travel.options import PLACE_AND_DATE, cost
from userrl.gyms.travel.preferences import bank
from userrl.gyms.travel.proof import prove
from userrl.gyms.travel.stock import Where, airline_codes, hours, in_reach, kilometers, price_range, stopovers
from userrl.gyms.travel.stories import content, listed, nth, spoken_day, started

GYM = find("travel")
SPLITS = ("train", "validation", "test")


@cache
def some() -> tuple[Task, ...]:
    """Tasks of all families."""
    return tuple(task(task_id) for task_id in ids(9, shares(150)))


def parts() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for made in some():
        yield from made.hidden["aspects"].items()


def worth(part: Mapping[str, Any], option: Mapping[str, Any]) -> float:
    return 1.0 if option["id"] == part["best"] else 0.8 if option["id"] in part["correct"] else 0.0


def fits(part: Mapping[str, Any], option: Mapping[str, Any]) -> bool:
    return not part["why"].get(option["id"], [""])[0].startswith("noise")


# --- the sets --------------------------------------------------------------------------------------------------------


def test_a_thousand_tasks_are_proven_and_no_two_open_alike() -> None:
    openings: set[str] = set()
    for task_id in ids(2, shares(1000)):
        made = task(task_id)
        prove(made)
        openings.add(made.prompt)
    assert len(openings) == 1000


def test_no_two_built_in_tasks_open_alike_whatever_their_splits() -> None:
    openings = Counter(made.prompt for split in ("validation", "test") for made in GYM.tasks(split))
    openings.update(made.prompt for made in GYM.tasks("train")[:500])
    assert set(openings.values()) == {1}


def test_the_families_come_in_the_official_proportions() -> None:
    assert sum(FAMILIES.values()) == 3122
    assert shares(471) == {"22": 101, "33": 87, "44": 67, "233": 61, "333": 53, "334": 47, "444": 38, "2222": 17}
    for total in (1, 10, 300, 2500):
        assert sum(shares(total).values()) == total
    for split, total in zip(SPLITS, (2500, 300, 471), strict=True):
        families = Counter(task_id.split("-")[1] for task_id in GYM.built_in_sets()[split].ids())
        assert families == shares(total)


def test_the_split_of_a_built_in_task_is_that_of_its_id() -> None:
    seen: list[str] = []
    for split in SPLITS:
        found = GYM.built_in_sets()[split].ids()
        assert {split_of(task_id) for task_id in found} == {split}
        seen += found
    assert len(set(seen)) == len(seen) == 3271


def test_the_first_tasks_of_a_set_are_of_many_families() -> None:
    for split in SPLITS:
        assert len({task_id.split("-")[1] for task_id in list(GYM.built_in_sets()[split].ids())[:40]}) >= 6


def test_a_longer_set_of_a_seed_holds_the_tasks_of_a_shorter_one() -> None:
    assert set(ids(1, shares(50), "test")) < set(ids(1, shares(100), "test"))
    assert not set(ids(1, shares(50))) & set(ids(2, shares(50)))


def test_a_task_depends_on_its_id_alone() -> None:
    first, other = task("travel-233-7-1"), task("travel-233-7-2")
    assert digest([task("travel-233-7-1")]) == digest([first]) != digest([other])
    assert generate.tasks(7, {"22": 2, "444": 1}, "train") == [task(task_id) for task_id in ids(7, {"22": 2, "444": 1}, "train")]


@pytest.mark.parametrize("task_id", ["travel-9-1-1", "travel-22-1", "flight:2-1|hotel:2-1", ""])
def test_an_id_that_is_none_is_named(task_id: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"Travel task {task_id!r}: expected travel-<family>-<seed>-<number>")):
        task(task_id)


def test_a_family_that_there_is_not_is_named() -> None:
    with pytest.raises(UnknownName, match="No family of travel tasks named '55'"):
        ids(1, {"55": 3})


def test_only_the_tasks_that_are_looked_at_are_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("USERRL_CACHE", str(tmp_path))
    made: list[str] = []

    def counting(task_id: str) -> Task:
        made.append(task_id)
        return task(task_id)

    monkeypatch.setattr(generate, "task", counting)
    train = GYM.built_in_sets()["train"].made()
    assert isinstance(train, Made) and len(train) == 2500 and len(train[:5]) == 5 and made == []
    assert [t.id for t in train[:5]] == made
    wanted = list(GYM.built_in_sets()["validation"].ids())[77]
    made.clear()
    found = GYM.built_in_sets()["validation"].made().task(wanted)
    assert found.id == wanted and made == [wanted]
    again = GYM.built_in_sets()["validation"].made().task(wanted)
    assert repr(again) == repr(found) == repr(task(wanted)) and made == [wanted]


def test_a_task_is_found_by_its_id() -> None:
    wanted = list(GYM.built_in_sets()["test"].ids())[-1]
    assert GYM.task(wanted).id == wanted
    with pytest.raises(UnknownName, match="No task of gym 'travel' named 'travel-22-1-x'"):
        GYM.task("travel-22-1-x")


def test_tasks_are_json_and_fit_the_schema_of_the_gym() -> None:
    assert GYM.hidden_model is not None
    for made in some()[:40]:
        assert json.loads(json.dumps(made.hidden)) == made.hidden
        GYM.hidden_model.model_validate(dict(made.hidden))


# --- the request -----------------------------------------------------------------------------------------------------


def test_a_search_can_be_right_going_by_the_request_alone() -> None:
    for made in some():
        requests = {aspect: part["arguments"] for aspect, part in made.hidden["aspects"].items()}
        for aspect in requests:
            only = {aspect: requests[aspect]}
            assert matching(made.prompt, only) == (True, aspect), (made.id, aspect, made.prompt)


def test_the_request_holds_no_wish() -> None:
    for made in some():
        said = made.prompt.casefold()
        for part in made.hidden["aspects"].values():
            for preference in part["preferences"]:
                assert preference["text"].casefold() not in said
                assert not any(hint.casefold() in said for hint in bank()[preference["key"]].hints)


def test_requests_begin_in_many_ways() -> None:
    beginnings = Counter(" ".join(made.prompt.split()[:3]) for made in some())
    assert len(beginnings) >= 50
    assert max(beginnings.values()) <= 0.1 * len(some())


def test_who_travels_goes_with_what_they_want() -> None:
    for number in range(1200):
        made = task(f"travel-2222-11-{number}") if number < 300 else task(f"travel-44-11-{number}")
        keys = {preference["key"] for part in made.hidden["aspects"].values() for preference in part["preferences"]}
        alone = "alone" in made.hidden["scenario"]
        if "hotel.transport.parking" in keys and "flight" in made.hidden["aspects"]:
            assert "rental_car" in made.hidden["aspects"]
        if "restaurant.atmosphere.romantic" in keys:
            assert re.search("wife|husband|partner|fiancé", made.prompt) and "little" not in made.prompt
        if "rental_car.drivers.additional" in keys:
            assert not alone
        if "rental_car.mileage.border" in keys:
            assert made.hidden["aspects"]["rental_car"]["arguments"]["city"] not in ("Tokyo", "Honolulu", "Denver")


# --- the options -----------------------------------------------------------------------------------------------------


def test_the_cheapest_option_is_always_wrong() -> None:
    for _, part in parts():
        for options in (part["options"], [option for option in part["options"] if fits(part, option)]):
            assert worth(part, min(options, key=cost)) == 0


def test_a_random_choice_earns_little() -> None:
    anything = mean(worth(part, option) for _, part in parts() for option in part["options"])
    fitting = mean(worth(part, option) for _, part in parts() for option in part["options"] if fits(part, option))
    assert anything == pytest.approx(3.4 / 19)
    assert fitting == pytest.approx(3.4 / 14)


def test_no_place_in_the_order_of_prices_is_worth_much_more_than_others() -> None:
    by_place: dict[int, list[float]] = {}
    for _, part in parts():
        options = sorted((option for option in part["options"] if fits(part, option)), key=cost)
        for place, option in enumerate(options):
            by_place.setdefault(place, []).append(worth(part, option))
    found = {place: mean(worths) for place, worths in by_place.items()}
    assert found[0] == found[1] == 0
    assert max(found.values()) <= 0.45


def test_the_weights_of_the_ranks_make_all_of_them_worth_the_same() -> None:
    for size in (2, 3, 4):
        weights = generate._ranks(size)
        chances = [weight / sum(weights) for weight in weights]
        for place in range(size, 11):
            others = sum(chance * 0.8 * 3 / (13 - size - n) for n, chance in enumerate(chances[: place - size]))
            assert chances[place - size] + others == pytest.approx(chances[0])


def test_correct_options_are_no_better_equipped_than_wrong_ones() -> None:
    """Else who counts amenities need not ask."""
    fulfilled: dict[bool, list[int]] = {True: [], False: []}
    for aspect, part in parts():
        for option in part["options"]:
            if fits(part, option):
                held = sum(p.holds(option) for p in bank().values() if p.aspect == aspect)
                fulfilled[option["id"] in part["correct"]].append(held)
    assert mean(fulfilled[True]) == pytest.approx(mean(fulfilled[False]), abs=0.35)


def test_who_takes_what_most_options_have_earns_no_more_than_chance() -> None:
    """Choosing the cheapest option that fulfills the preferences which most options fulfill."""
    earned = []
    for aspect, part in parts():
        options = [option for option in part["options"] if fits(part, option)]
        held = {p.key: {o["id"] for o in options if p.holds(o)} for p in bank().values() if p.aspect == aspect}
        common = sorted((key for key in held if len(held[key]) < len(options)), key=lambda key: -len(held[key]))
        for number in (2, 3, 4):
            fulfilling = [o for o in options if all(o["id"] in held[key] for key in common[:number])]
            earned.append(worth(part, min(fulfilling or options, key=cost)))
    assert mean(earned) <= 0.15


def test_noise_shows_by_its_own_fields_that_it_is_for_another_place_or_date() -> None:
    reasons = Counter[str]()
    for aspect, part in parts():
        wants = part["arguments"]
        for option in part["options"]:
            same = all(option[name] == wants[name] for name in PLACE_AND_DATE[aspect])
            if aspect == "flight":
                same = same and (option["path"][0], option["path"][-1]) == (wants["origin"], wants["destination"])
            assert same is fits(part, option)
            if not same:
                reasons.update(part["why"][option["id"]])
    assert min(reasons["noise: other date"], reasons["noise: other place"]) > 0.3 * reasons.total()


def test_everybody_has_a_seat_and_a_bed() -> None:
    for made in some():
        wants = [part["arguments"] for part in made.hidden["aspects"].values()]
        [people] = {said[name] for said in wants for name in ("guests", "passengers") if name in said}
        for part in made.hidden["aspects"].values():
            for option in part["options"]:
                assert option.get("seats", people) >= people and option.get("capacity", people) >= people


def where(aspect: str, city: str = "Lisbon", *, nights: int = 4, month: int = 5, people: int = 2, home: str = "Berlin") -> Where:
    days = (date(2025, month, 3), date(2025, month, 3 + nights))
    return Where(aspect, city, home, days[:1] if aspect in ("flight", "restaurant") else days, people)


def test_prices_depend_on_place_date_nights_and_people() -> None:
    for aspect in ("hotel", "apartment", "restaurant", "rental_car"):
        assert price_range(where(aspect, "Zurich"))[0] > price_range(where(aspect, "Hanoi"))[0]
    for aspect in ("hotel", "apartment", "rental_car"):
        assert price_range(where(aspect, nights=8))[0] > price_range(where(aspect))[0]
    for aspect in ("flight", "hotel", "apartment", "rental_car"):
        assert price_range(where(aspect, month=7))[1] > price_range(where(aspect))[1]
    for aspect in ("hotel", "apartment"):
        assert price_range(where(aspect, people=4))[0] > price_range(where(aspect))[0]
    assert price_range(where("flight", "Tokyo"))[0] > price_range(where("flight", "Paris"))[1]


def test_there_are_enough_prices_for_all_options_at_the_cheapest_places() -> None:
    for city in content("places"):
        for aspect in ("hotel", "apartment", "restaurant", "rental_car"):
            low, high = price_range(where(aspect, city, nights=1, people=1))
            assert high - low >= 19 and low >= 5
        for home in in_reach(city):
            low, high = price_range(where("flight", city, home=home))
            assert high - low >= 19


def test_flights_take_as_long_as_the_way_and_stop_on_it() -> None:
    assert kilometers("London", "New York") == pytest.approx(5570, rel=0.01)
    assert 6.5 < hours("London", "New York", random.Random(0)) < 8.5
    for home, city in (("London", "Sydney"), ("Lisbon", "Berlin"), ("Boston", "Seattle")):
        assert stopovers(home, city, 0, random.Random(0)) == []
        for seed in range(20):
            stops = stopovers(home, city, 2, random.Random(seed))
            assert len({home, *stops, city}) == 4
            assert kilometers(home, stops[0]) <= kilometers(home, stops[1])
            assert all(kilometers(home, s) + kilometers(s, city) < 1.6 * kilometers(home, city) for s in stops)


def test_airlines_have_codes_of_their_own() -> None:
    codes = airline_codes()
    assert len(set(codes.values())) == len(codes) >= 20
    assert all(re.fullmatch("[A-Z]{2}", code) for code in codes.values())


def test_words_are_put_together_as_one_writes_them() -> None:
    assert [nth(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 31)] == (
        ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "31st"]
    )
    assert spoken_day(date(2025, 12, 31)) == "December 31st"
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b, and c"]
    assert started("we go. we stay! what now? done") == "We go. We stay! What now? Done"


def test_the_manifest_says_how_the_sets_are_made() -> None:
    manifest = json.loads((Path(str(GYM.room())) / "tasks" / "manifest.json").read_text("utf-8"))
    for split, total in zip(SPLITS, (2500, 300, 471), strict=True):
        assert manifest["sets"][split]["recipe"] == {"seed": 1, "split": split, "families": shares(total)}
