"""How the scripted judge reads searches and questions."""

from __future__ import annotations

import json

import pytest

from userrl.gyms.travel.listening import dates, hear, matching, plain
from userrl.gyms.travel.preferences import bank, categories

REQUESTS = {
    "flight": {"origin": "Oslo", "destination": "Porto", "date": "May 3rd", "passengers": 2},
    "hotel": {"city": "Porto", "check_in": "May 3rd", "check_out": "May 6th", "guests": 2},
    "restaurant": {"city": "Porto", "date": "May 4th", "guests": 2},
}


# --- searches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "aspect"),
    [
        ("flight from Oslo to Porto on May 3rd for two people", "flight"),
        ("2 seats on a plane, 3 May, PORTO, coming from oslo", "flight"),
        ("FLIGHT: origin=Oslo; destination=Porto; date=2025-05-03; passengers=2", "flight"),
        ('{"aspect": "flight", "origin": "Oslo", "destination": "Porto", "date": "05/03", "passengers": 2}', "flight"),
        ('{"origin": "Oslo", "destination": "Porto", "date": "the 3rd of May", "passengers": "two"}', "flight"),
        ("a cheap and quiet hotel in Porto for two guests, May 3-6, with a pool", "hotel"),
        ("hotel, Porto, check-in 3rd of May, check-out 6th of May, 2 guests", "hotel"),
        ("Where to stay? Accommodation in Porto, May 3rd until the 6th, two of us", "hotel"),
        ("dinner in Porto on May 4, two people, near the hotel", "restaurant"),
        ("restaurant for the hotel guests: Porto, 2025-05-04, 2", "restaurant"),
    ],
)
def test_a_request_that_says_all_values_in_whatever_form_and_order_matches(request_: str, aspect: str) -> None:
    assert matching(request_, REQUESTS) == (True, aspect)


@pytest.mark.parametrize(
    ("request_", "aspect"),
    [
        ("flight from Oslo to Porto for two people", "flight"),
        ("flight from Oslo to Porto on May 13th for two people", "flight"),
        ("flight from Oslo to Porto on June 3rd for two people", "flight"),
        ("flight from Oslo to Porto on May 3rd for three people", "flight"),
        ("flight from Oslo to Porto on May 2nd", "flight"),
        ("flight from Porto to Oslo on May 3rd for two people", "flight"),
        ("hotel in Portofino, May 3-6, two guests", "hotel"),
        ("hotel in Porto, 2 guests, 2 nights", "hotel"),
        ("a rental car in Porto, May 3rd to May 6th, two people", None),
        ("Porto, May 3rd, May 4th, May 6th, two", None),
        ("What do you think?", None),
        ("", None),
        ("[1, 2]", None),
        ('{"flight": ', "flight"),
    ],
)
def test_a_request_that_lacks_or_changes_a_value_does_not_match(request_: str, aspect: str | None) -> None:
    assert matching(request_, REQUESTS) == (False, aspect)


def test_of_several_aspects_in_a_request_the_first_complete_one_counts() -> None:
    both = "hotel and restaurant in Porto, two people, May 4th"
    assert matching(both, REQUESTS) == (True, "restaurant")
    assert matching(f"{both}, May 3rd to 6th", REQUESTS) == (True, "hotel")


def test_nested_values_and_lists_must_all_be_said() -> None:
    requests = {"flight": {"route": ["Oslo", "Porto"], "when": {"day": "May 3rd"}, "price": 99.5}}
    assert matching("flight Oslo Porto May 3 99.5", requests) == (True, "flight")
    assert matching("flight Oslo May 3", requests) == (False, "flight")


def test_dates_are_read_in_many_forms_and_days_of_other_months_are_kept_apart() -> None:
    assert set(dates("Jan 3 and 7 June; 4th of December - december 10th; sept. 5; mayor 3")) == {
        (1, 3), (6, 7), (12, 4), (12, 10), (9, 5),
    }  # fmt: skip
    assert set(dates("May 4th to 7:30")) == {(5, 4)}


def test_plain_text_has_no_case_no_marks_and_no_plural() -> None:
    assert plain("Two late check-outs, PLEASE!") == " two late check out please "
    assert plain("Is the bus free of glass?") == " is the bus free of glass "
    for one, many in (("allergy", "allergies"), ("movie", "movies"), ("dish", "dishes"), ("stay", "stays"), ("box", "boxes")):
        assert plain(one) == plain(many), one


# --- questions -------------------------------------------------------------------------------------------------------

ALL = ("flight", "hotel", "apartment", "restaurant", "rental_car")


@pytest.mark.parametrize("aspect", ALL)
def test_every_word_of_a_category_names_it_and_no_other_of_its_aspect(aspect: str) -> None:
    for name, category in categories(aspect).items():
        for word in category.words:
            heard = hear(f"What about {word}?", [aspect])
            assert heard.topics == ((aspect, name),), word


def test_a_question_goes_by_the_aspect_it_names_else_by_the_one_named_last_else_by_all() -> None:
    hotel, restaurant = (next(iter(categories(aspect).values())) for aspect in ("hotel", "restaurant"))
    word = hotel.words[0]
    assert hear(f"{word} of the hotel?", ALL).topics[0] == ("hotel", hotel.name)
    assert hear(f"And {word}?", ALL, ["Which hotel?"]).topics[0] == ("hotel", hotel.name)
    assert ("restaurant", restaurant.name) in hear(f"{restaurant.words[0]}?", ["restaurant"]).topics
    assert hear(f"{word} of the hotel?", ["restaurant"]).topics == ()


def test_a_statement_does_not_ask() -> None:
    assert not hear("The hotel has breakfast.", ALL).asks
    assert hear("Tell me about breakfast at the hotel.", ALL).asks
    assert hear("Breakfast at the hotel?", ALL).asks


def test_all_of_the_bank_is_named_by_its_labels() -> None:
    for preference in bank().values():
        category = categories(preference.aspect)[preference.category]
        heard = hear(f"Any wishes about {category.label}?", [preference.aspect])
        assert heard.topics == ((preference.aspect, preference.category),), category.label


@pytest.mark.parametrize("text", ["{" * 3000, json.dumps({"a": [1] * 50}), "May " * 20_000, "flight " * 20_000])
def test_odd_requests_are_no_trouble(text: str) -> None:
    assert matching(text, REQUESTS)[0] is False
