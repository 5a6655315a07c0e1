"""The bank of preferences: how much there is, that nothing is mixed up, and that options can be made to fit it."""

import json
import random
import re
from datetime import date
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import pytest

import userrl.gyms.travel
from userrl.errors import DataError, UnknownName
from userrl.gyms.travel.listening import hear, plain
from userrl.gyms.travel.options import FIELDS, LETTERS, PLACE_AND_DATE, STARS, check_option, cost, put_cost, read, write
from userrl.gyms.travel.preferences import FORMS, Preference, agree, bank, categories, hints_of, load, recognize
from userrl.gyms.travel.stock import Where, stock

FILE = Path(userrl.gyms.travel.__file__).parent / "words" / "preferences.json"
HINTS = [(hint, preference) for preference in bank().values() for hint in preference.hints]
CATEGORIES = [category for aspect in FIELDS for category in categories(aspect).values()]

BARE: dict[str, dict[str, Any]] = {
    "flight": {
        "path": ["Oslo", "Porto"],
        "time": [5.3],
        "company": ["Quillair"],
        "flight_number": ["QI210"],
        "cost": 210,
        "amenities": [],
        "service": [],
    },
    "hotel": {"name": "Cedar Inn", "room": ["Standard Twin Room"], "cost": [310], "rating": 8.7, "amenities": [], "service": []},
    "apartment": {
        "name": "Fig Tree Loft",
        "room": "1B1B",
        "capacity": 3,
        "cost": 400,
        "rating": 8.0,
        "amenities": [],
        "service": [],
    },
    "restaurant": {
        "name": "Brass Kettle",
        "cuisine": "Thai",
        "expectation": "$$ (about $34 a person)",
        "rating": 8.2,
        "reviews": dict.fromkeys(STARS, 20),
        "tags": [],
    },
    "rental_car": {
        "brand": "Toyota",
        "model": "Camry",
        "categories": "sedan",
        "seats": 5,
        "cost": 180,
        "insurance": [],
        "service": [],
    },
}


def option(aspect: str, rng: random.Random, *wishes: tuple[Preference, bool]) -> dict[str, Any]:
    """One with drawn properties, for which these preferences hold or not."""
    days = (date(2025, 5, 3),) if aspect == "restaurant" else (date(2025, 5, 3), date(2025, 5, 6))
    name = "Somewhere" if "name" in FIELDS[aspect] else ""
    made = stock(Where(aspect, "Porto", "Oslo", days, 1), name, {p.category: (p, holds) for p, holds in wishes}, rng)
    return {"id": f"{LETTERS[aspect]}1", **made}


def of(aspect: str) -> list[Preference]:
    return [preference for preference in bank().values() if preference.aspect == aspect]


# --- what there is ---------------------------------------------------------------------------------------------------


def test_the_bank_is_as_large_as_the_one_of_the_paper() -> None:
    assert len(CATEGORIES) >= 24
    assert len(bank()) >= 82
    assert min(len(preference.hints) for preference in bank().values()) >= 8


@pytest.mark.parametrize("aspect", FIELDS)
def test_an_aspect_has_enough_categories_for_the_largest_families(aspect: str) -> None:
    assert len(categories(aspect)) >= 5
    assert {preference.category for preference in of(aspect)} == set(categories(aspect))
    assert all(preference.key.split(".")[:2] == [aspect, preference.category] for preference in of(aspect))


def test_no_two_preferences_have_a_check_or_a_text_in_common() -> None:
    for aspect in FIELDS:
        assert len({json.dumps(dict(p.check), sort_keys=True) for p in of(aspect)}) == len(of(aspect))
        assert len({p.text for p in of(aspect)}) == len(of(aspect))


def test_every_form_of_check_is_used() -> None:
    assert {form for preference in bank().values() for form in preference.check if form != "field"} == set(FORMS)


def test_a_preference_can_be_a_member_of_a_set() -> None:
    assert len(set(bank().values())) == len(bank())


# --- hints -----------------------------------------------------------------------------------------------------------


def test_no_hint_is_part_of_another_one() -> None:
    texts = [plain(hint) for hint, _ in HINTS]
    assert [(one, other) for one, other in permutations(texts, 2) if one in other] == []


def test_a_hint_never_says_outright_what_is_wanted() -> None:
    said = []
    for hint, preference in HINTS:
        item, wanted = preference.check["field"].partition("/")[2], [v for k, v in preference.check.items() if k != "field"]
        values = [item, *(value for value in wanted if isinstance(value, str))]
        said += [(hint, value) for value in values if value and plain(value) in plain(hint)]
    assert said == []


def test_hints_are_sentences_of_moderate_length() -> None:
    assert [
        hint for hint, _ in HINTS if not re.fullmatch(r"[A-Z].*[a-zA-Z']{2}[.?]", hint) or not 4 <= len(hint.split()) <= 30
    ] == []


def test_the_hints_of_a_preference_begin_in_different_ways() -> None:
    starts = {p.key: {" ".join(hint.split()[:3]) for hint in p.hints} for p in bank().values()}
    assert [key for key, different in starts.items() if len(different) < len(bank()[key].hints) - 1] == []


def test_every_hint_is_recognized() -> None:
    assert [hint for hint, preference in HINTS if recognize(hint) != preference] == []


def test_every_hint_is_recognized_within_a_longer_text_and_by_its_words_alone() -> None:
    for hint, preference in HINTS:
        assert recognize(f"Hmm, let me think. {hint} So there.", preference.aspect) == preference
        assert recognize(f"well -- {hint.upper().replace(chr(39), chr(8217))}") == preference


@pytest.mark.parametrize(
    "text",
    [
        "",
        "All right.",
        "I swim a few lengths every morning wherever I am.",
        "I want to see boats",
        "Good question, but I have no wish about that which I have not told you.",
    ],
)
def test_a_text_without_a_hint_of_the_bank_is_not_recognized(text: str) -> None:
    assert recognize(text) is None


def test_a_hint_is_not_taken_for_one_of_another_aspect() -> None:
    hint = bank()["flight.seat.aisle"].hints[0]
    assert recognize(hint, "hotel") is None
    other = bank()["hotel.wellness.gym"]
    assert recognize(f"{hint} {other.hints[0]}", "hotel") == other
    assert recognize(f"{hint} {other.hints[0]}") == bank()["flight.seat.aisle"]


def test_hints_come_from_the_task_or_else_from_the_bank() -> None:
    preference = bank()["hotel.rating.top"]
    assert hints_of({"id": "P1", "key": preference.key}) == preference.hints
    assert hints_of({"id": "P1", "key": None, "hints": ["I like it."]}) == ["I like it."]
    with pytest.raises(UnknownName, match=r"hotel.rating.tops.*hotel.rating.top"):
        hints_of({"key": "hotel.rating.tops"})


def test_traits_agree_unless_one_has_two_values() -> None:
    keys = ("flight.meal.vegan", "restaurant.cuisine.steakhouse", "hotel.wellness.gym")
    vegan, steak, gym = (bank()[key].traits for key in keys)
    assert agree(vegan, gym, {"party": "alone"}) and agree(steak, gym) and agree()
    assert not agree(vegan, gym, steak)
    assert not agree(bank()["hotel.room.twin"].traits, {"party": "alone"})


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aspect", FIELDS)
def test_no_word_of_a_category_is_part_of_a_word_of_another(aspect: str) -> None:
    words = [(category.name, plain(word)) for category in categories(aspect).values() for word in category.words]
    assert [(a, b) for a, b in permutations(words, 2) if a[0] != b[0] and a[1] in b[1]] == []


@pytest.mark.parametrize("category", CATEGORIES, ids=lambda category: f"{category.aspect}.{category.name}")
def test_a_question_with_its_label_is_about_the_category_alone(category: Any) -> None:
    question = f"Do you have any wishes about {category.label} for the {category.aspect.replace('_', ' ')}?"
    assert hear(question, list(FIELDS)).topics == ((category.aspect, category.name),)
    assert hear(f"Any wishes about {category.label}?", [category.aspect]).topics == ((category.aspect, category.name),)


def test_an_unknown_aspect_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"No aspect named 'hotels'. Did you mean 'hotel'"):
        categories("hotels")


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aspect", FIELDS)
def test_an_option_with_drawn_properties_is_one_of_its_aspect(aspect: str) -> None:
    rng = random.Random(7)
    for _ in range(30):
        made = option(aspect, rng)
        check_option(aspect, made)
        for category in categories(aspect).values():
            assert all(_fits(read(made, name), values) for name, values in category.values.items())


def _fits(found: Any, values: Any) -> bool:
    """Whether a property is one of its category's values; those of rooms and reviews are written out."""
    if isinstance(found, dict) and "1_star" in found:
        return any(sum(found.values()) == total and found["1_star"] == round(total * share) for total, share in values)
    if isinstance(found, list) and found and isinstance(found[0], str):
        return any(all(room.endswith(value) for room in found) for value in values)
    return found in values


@pytest.mark.parametrize("preference", bank().values(), ids=lambda preference: preference.key)
def test_a_preference_can_be_made_to_hold_and_to_fail(preference: Preference) -> None:
    rng = random.Random(preference.key)
    for holds in (True, False) * 5:
        made = option(preference.aspect, rng, (preference, holds))
        assert preference.holds(made) is holds
        check_option(preference.aspect, made)


@pytest.mark.parametrize("aspect", FIELDS)
def test_preferences_of_different_categories_do_not_bear_on_each_other(aspect: str) -> None:
    rng = random.Random(11)
    for one, other in permutations(of(aspect), 2):
        if one.category == other.category:
            continue
        first, then = rng.random() < 0.5, rng.random() < 0.5
        made = option(aspect, rng, (one, first), (other, then))
        assert (one.holds(made), other.holds(made)) == (first, then), (one.key, other.key, made)


def test_preferences_of_one_category_do_not_all_hold_alike() -> None:
    rng = random.Random(3)
    for aspect in FIELDS:
        seen = [{p.key: p.holds(made) for p in of(aspect)} for made in (option(aspect, rng) for _ in range(200))]
        for one, other in combinations(of(aspect), 2):
            assert any(holds[one.key] != holds[other.key] for holds in seen), (one.key, other.key)


def test_an_option_is_the_same_for_the_same_seed() -> None:
    wish = (bank()["flight.layover.visit"], True)
    made = [option("flight", random.Random(seed), wish) for seed in (5, 5, 6)]
    assert made[0] == made[1] != made[2]


def test_a_stop_keeps_the_ends_of_the_path_and_the_hours_in_the_air() -> None:
    flight = BARE["flight"] | {"amenities": []}
    write(flight, "layovers", [1.5, 2.0], random.Random(1))
    assert (flight["path"][0], flight["path"][-1], len(set(flight["path"]))) == ("Oslo", "Porto", 4)
    assert flight["time"][1::2] == [1.5, 2.0]
    assert sum(flight["time"][::2]) == pytest.approx(5.3)
    assert flight["company"] == ["Quillair"] * 3
    assert len({re.fullmatch(r"QI[0-9]{3}", number) and number for number in flight["flight_number"]}) == 3
    write(flight, "layovers", [], random.Random(1))
    assert {**flight, "time": [round(hours, 1) for hours in flight["time"]]} == BARE["flight"]


def test_a_service_has_a_price_is_free_or_is_not_offered() -> None:
    flight, rng = BARE["flight"] | {"service": ["carry-on bag: $25"]}, random.Random(1)
    for price, line in ((35, "checked bag: $35"), (0, "checked bag: free")):
        write(flight, "service/checked bag", price, rng)
        assert sorted(flight["service"]) == ["carry-on bag: $25", line]
        assert read(flight, "service/checked bag") == price
    write(flight, "service/checked bag", None, rng)
    assert flight["service"] == ["carry-on bag: $25"]
    assert read(flight, "service/checked bag") is None


def test_a_layover_wish_holds_for_a_nonstop_flight_unless_it_wants_to_stop() -> None:
    held = {p.key.split(".")[2] for p in of("flight") if p.category == "layover" and p.holds(BARE["flight"])}
    assert held == {"nonstop", "one_stop", "unhurried", "brief"}


@pytest.mark.parametrize("aspect", FIELDS)
def test_an_option_costs_what_it_was_made_to_cost(aspect: str) -> None:
    rng = random.Random(2)
    for dollars in (15, 48, 75, 1200):
        made = option(aspect, rng)
        put_cost(made, dollars, rng)
        assert cost(made) == dollars
        check_option(aspect, made)


def test_a_better_hotel_room_costs_more_and_the_cheapest_one_counts() -> None:
    hotel, rng = BARE["hotel"] | {"room": ["Standard Suite", "Superior Suite", "Deluxe Suite"]}, random.Random(2)
    put_cost(hotel, 500, rng)
    assert hotel["cost"][0] == cost(hotel) == 500
    assert hotel["cost"] == sorted(set(hotel["cost"])) and len(hotel["cost"]) == 3


def test_a_meal_has_the_price_class_of_its_price() -> None:
    restaurant, rng = dict(BARE["restaurant"]), random.Random(2)
    classes = []
    for dollars in (12, 20, 40, 70):
        put_cost(restaurant, dollars, rng)
        classes.append(restaurant["expectation"])
    assert classes == [
        "$ (about $12 a person)",
        "$$ (about $20 a person)",
        "$$$ (about $40 a person)",
        "$$$$ (about $70 a person)",
    ]


@pytest.mark.parametrize(
    ("aspect", "change", "said"),
    [
        ("hotel", {"id": "F1"}, "expected an id such as H3"),
        ("hotel", {"stars": 4}, "'stars'.*expected"),
        ("hotel", {"rating": "high"}, "field 'rating' is 'high'; expected int or float"),
        ("hotel", {"cost": [310, 400]}, "do not go in pairs"),
        ("flight", {"path": ["Oslo"]}, "path, time, company and flight_number"),
        ("flight", {"time": [2.0, 1.0, 2.0]}, "path, time, company and flight_number"),
        ("restaurant", {"expectation": "cheap"}, "expectation is 'cheap'"),
        ("rental_car", {"seats": True}, "field 'seats' is True; expected int"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(aspect: str, change: dict[str, Any], said: str) -> None:
    base = {"id": f"{LETTERS[aspect]}1", **BARE[aspect], **dict.fromkeys(PLACE_AND_DATE[aspect], "somewhere")}
    check_option(aspect, base)
    with pytest.raises(DataError, match=said):
        check_option(aspect, base | change)
    with pytest.raises(UnknownName, match="No aspect named 'trains'"):
        check_option("trains", base)


# --- the file --------------------------------------------------------------------------------------------------------


def test_the_file_is_read_as_it_is() -> None:
    preferences, shelves = load(FILE.read_text("utf-8"), "here")
    assert preferences == bank()
    assert shelves == {aspect: categories(aspect) for aspect in FIELDS}


def _no_aspect(rows: Any) -> None:
    del rows["hotel"]


def _no_hints(rows: Any) -> None:
    rows["hotel"]["rating"]["preferences"]["good"]["hints"] = []


def _stray_field(rows: Any) -> None:
    rows["hotel"]["rating"]["weight"] = 3


def _unknown_form(rows: Any) -> None:
    rows["hotel"]["rating"]["preferences"]["good"]["check"] = {"field": "rating", "eval": "x > 8"}


def _two_forms(rows: Any) -> None:
    rows["hotel"]["rating"]["preferences"]["good"]["check"]["at_most"] = 9


def _foreign_field(rows: Any) -> None:
    rows["hotel"]["rating"]["preferences"]["good"]["check"]["field"] = "amenities/gym"


def _owned_twice(rows: Any) -> None:
    rows["hotel"]["rating"]["values"]["amenities/gym"] = [True]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_no_aspect, "my file has the aspects .* expected"),
        (_no_hints, r"my file, hotel.rating.preferences.good.hints is \[\]"),
        (_stray_field, "my file, hotel.rating.weight is 3"),
        (_unknown_form, "my file, hotel.rating.good: check is .*eval.* expected a field and one of is, "),
        (_two_forms, "my file, hotel.rating.good: check is .*at_most"),
        (_foreign_field, "my file, hotel.rating.good: check is about 'amenities/gym', which its category does not own"),
        (_owned_twice, "my file, hotel: two categories own 'amenities/gym'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_place(spoil: Any, said: str) -> None:
    rows = json.loads(FILE.read_text("utf-8"))
    spoil(rows)
    with pytest.raises(DataError, match=said):
        load(json.dumps(rows), "my file")


def test_a_file_that_is_no_json_is_refused() -> None:
    with pytest.raises(DataError, match="my file is not JSON"):
        load("{", "my file")
