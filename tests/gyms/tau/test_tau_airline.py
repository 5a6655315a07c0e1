"""The airline's tools: effects, order of checks, and refusals that change nothing."""

from typing import Any

import pytest

from tiny_bench import airline, call, record, refused
from userrl.gyms.tau import database
from userrl.gyms.tau.database import Overlay

CY = {"first_name": "Cy", "last_name": "Lund", "dob": "1980-02-03"}


@pytest.fixture
def db() -> Overlay:
    return airline()


def methods(db: Overlay) -> dict[str, Any]:
    found: dict[str, Any] = record(db, "users", "cy_lund_3333")["payment_methods"]
    return found


def leg(number: str, day: int = 20) -> dict[str, str]:
    return {"flight_number": number, "date": f"2024-05-{day}"}


def pay(**amounts: float) -> list[dict[str, Any]]:
    return [{"payment_id": method, "amount": amount} for method, amount in amounts.items()]


def booking(**other: Any) -> dict[str, Any]:
    """One passenger from SFO by DEN to BOS in economy, for 250 dollars."""
    return {
        "user_id": "cy_lund_3333",
        "origin": "SFO",
        "destination": "BOS",
        "flight_type": "one_way",
        "cabin": "economy",
        "flights": [leg("HAT901"), leg("HAT902")],
        "passengers": [CY],
        "payment_methods": pay(credit_card_3=250),
        "total_baggages": 0,
        "nonfree_baggages": 0,
        "insurance": "no",
        **other,
    }


# --- looking up ----------------------------------------------------------------------------------------------


def test_direct_flights_are_those_on_sale_that_day(db: Overlay) -> None:
    [flight] = call(db, "search_direct_flight", origin="SFO", destination="BOS", date="2024-05-20").value
    assert flight == {
        "flight_number": "HAT905",
        "origin": "SFO",
        "destination": "BOS",
        "scheduled_departure_time_est": "07:00:00",
        "scheduled_arrival_time_est": "13:00:00",
        "status": "available",
        "available_seats": {"basic_economy": 1, "economy": 1, "business": 1},
        "prices": {"basic_economy": 280, "economy": 300, "business": 900},
    }
    for date in ("2024-05-21", "2024-06-20"):
        assert call(db, "search_direct_flight", origin="SFO", destination="BOS", date=date).value == []


def test_connections_leave_after_the_first_flight_has_arrived(db: Overlay) -> None:
    found = call(db, "search_onestop_flight", origin="SFO", destination="BOS", date="2024-05-20").value
    numbers = [[flight["flight_number"] for flight in pair] for pair in found]
    assert numbers == [["HAT901", "HAT902"], ["HAT904", "HAT903"]]
    assert [[flight["date"] for flight in pair] for pair in found] == [["2024-05-20"] * 2, ["2024-05-20", "2024-05-21"]]


def test_the_second_flight_of_a_night_connection_is_shown_as_on_the_first_day(db: Overlay) -> None:
    pair = call(db, "search_onestop_flight", origin="SFO", destination="BOS", date="2024-05-20").value[1]
    assert pair[1]["prices"]["economy"] == 90


def test_a_date_that_is_none_is_refused_where_the_next_day_matters(db: Overlay) -> None:
    assert refused(db, "search_onestop_flight", origin="SFO", destination="BOS", date="soon") == "py_exception"
    assert call(db, "search_onestop_flight", origin="DEN", destination="BOS", date="soon").value == []


def test_the_airports_are_always_the_same(db: Overlay) -> None:
    airports = call(db, "list_all_airports").value
    assert len(airports) == 20
    assert airports["EWR"] == "Newark"


def test_an_unknown_reservation_is_reported_as_an_unknown_user_when_it_is_read(db: Overlay) -> None:
    assert refused(db, "get_reservation_details", reservation_id="ZZZ") == "user_not_found"
    assert refused(db, "cancel_reservation", reservation_id="ZZZ") == "reservation_not_found"


# --- booking -------------------------------------------------------------------------------------------------


def test_a_booking_is_recorded_as_asked_for_and_takes_no_seats(db: Overlay) -> None:
    result = call(db, "book_reservation", **booking())
    assert result.value["reservation_id"] == "HATHAT"
    assert result.value["flights"][0] == {**leg("HAT901"), "price": 100, "origin": "SFO", "destination": "DEN"}
    assert result.value["created_at"] == "2024-05-15T15:00:00"
    assert record(db, "users", "cy_lund_3333")["reservations"] == ["AAA111", "HATHAT"]
    assert record(db, "flights", "HAT901")["dates"]["2024-05-20"]["available_seats"]["economy"] == 5


def test_insurance_counts_for_each_passenger_and_bags_once(db: Overlay) -> None:
    two = booking(passengers=[CY, CY], insurance="yes", nonfree_baggages=3)
    wrong = call(db, "book_reservation", **two)
    assert (wrong.code, wrong.slots) == ("payment_sum_mismatch", {"total_price": "710", "paid": "250"})
    assert call(db, "book_reservation", **{**two, "payment_methods": pay(credit_card_3=2 * 250 + 2 * 30 + 3 * 50)}).ok


def test_a_certificate_is_used_up_and_a_gift_card_pays_what_was_asked(db: Overlay) -> None:
    call(db, "book_reservation", **booking(payment_methods=pay(certificate_3=40, gift_card_3=110, credit_card_3=100)))
    assert methods(db).keys() == {"credit_card_3", "gift_card_3"}
    assert methods(db)["gift_card_3"]["amount"] == 10


def test_the_same_certificate_twice_fails_after_the_first_was_taken(db: Overlay) -> None:
    twice = [*pay(certificate_3=100), *pay(certificate_3=50), *pay(credit_card_3=100)]
    assert call(db, "book_reservation", **booking(payment_methods=twice)).code == "py_exception"
    assert "certificate_3" not in methods(db)
    assert record(db, "users", "cy_lund_3333")["reservations"] == ["AAA111"]


def test_the_fourth_booking_takes_the_place_of_the_third(db: Overlay) -> None:
    ids = [call(db, "book_reservation", **booking(origin=str(n))).value["reservation_id"] for n in range(4)]
    assert ids == ["HATHAT", "HATHAU", "HATHAV", "HATHAV"]
    assert record(db, "reservations", "HATHAV")["origin"] == "3"


@pytest.mark.parametrize(
    ("other", "code"),
    [
        ({"user_id": "x", "flights": [leg("HAT999")]}, "user_not_found"),
        ({"flights": [leg("HAT999")]}, "flight_not_found"),
        ({"flights": [leg("HAT901", 30)]}, "flight_date_not_found"),
        ({"flights": [leg("HAT901", 14)]}, "flight_date_not_available"),
        ({"flights": [leg("HAT902", 21)]}, "flight_date_not_available"),
        ({"cabin": "first"}, "py_exception"),
        ({"cabin": "business", "passengers": [CY, CY], "payment_methods": pay(x=1)}, "not_enough_seats"),
        ({"payment_methods": pay(x=1)}, "payment_id_not_found"),
        ({"payment_methods": pay(gift_card_3=121)}, "payment_balance_short"),
        ({"payment_methods": pay(certificate_3=101)}, "payment_balance_short"),
        ({"payment_methods": pay(credit_card_3=249)}, "payment_sum_mismatch"),
        ({"payment_methods": []}, "payment_sum_mismatch"),
    ],
)
def test_a_booking_is_refused_for_the_first_thing_that_is_wrong(db: Overlay, other: dict[str, Any], code: str) -> None:
    assert refused(db, "book_reservation", **booking(**other)) == code


# --- changing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [("HAT999", "flight_not_found"), ("HAT901", "py_exception")])
def test_a_flight_is_looked_up_before_its_date_is_missed(db: Overlay, number: str, code: str) -> None:
    flights = [{"flight_number": number}]
    assert refused(db, "book_reservation", **booking(flights=flights)) == code
    change = {"reservation_id": "AAA111", "cabin": "business", "flights": flights, "payment_id": "credit_card_3"}
    assert refused(db, "update_reservation_flights", **change) == code


def test_what_a_call_has_stored_makes_no_later_one_crash(db: Overlay) -> None:
    assert call(db, "send_certificate", user_id="cy_lund_3333", amount="5").ok
    text = booking(payment_methods=pay(certificate_3221322=5))
    assert refused(db, "book_reservation", **text) == "py_exception"
    free = booking(flights=[], payment_methods={})
    assert call(db, "book_reservation", **free).ok
    assert refused(db, "cancel_reservation", reservation_id="HATHAT") == "py_exception"


def test_a_cancellation_notes_refunds_and_doubles_them_when_repeated(db: Overlay) -> None:
    first = call(db, "cancel_reservation", reservation_id="AAA111").value
    assert first["status"] == "cancelled"
    assert [p["amount"] for p in first["payment_history"]] == [245, -245]
    again = call(db, "cancel_reservation", reservation_id="AAA111").value
    assert [p["amount"] for p in again["payment_history"]] == [245, -245, -245, 245]


def bags(total: int, nonfree: int, method: str) -> dict[str, Any]:
    return {"reservation_id": "AAA111", "total_baggages": total, "nonfree_baggages": nonfree, "payment_id": method}


def test_bags_that_are_not_free_are_paid_and_fewer_cost_nothing(db: Overlay) -> None:
    reservation = call(db, "update_reservation_baggages", **bags(3, 2, "gift_card_3")).value
    assert (reservation["total_baggages"], reservation["payment_history"][-1]) == (
        3,
        {"payment_id": "gift_card_3", "amount": 100},
    )
    assert methods(db)["gift_card_3"]["amount"] == 20
    reservation = call(db, "update_reservation_baggages", **bags(0, 0, "gift_card_3")).value
    assert (reservation["nonfree_baggages"], len(reservation["payment_history"])) == (0, 2)


@pytest.mark.parametrize(
    ("method", "code"),
    [("x", "payment_method_not_found"), ("certificate_3", "certificate_not_allowed"), ("gift_card_3", "gift_card_short_update")],
)
def test_a_change_that_cannot_be_paid_is_refused(db: Overlay, method: str, code: str) -> None:
    assert refused(db, "update_reservation_baggages", **bags(9, 9, method)) == code
    dear = {"reservation_id": "AAA111", "cabin": "business", "flights": [leg("HAT901"), leg("HAT902")], "payment_id": method}
    assert refused(db, "update_reservation_flights", **dear) == code


def test_flights_that_stay_keep_their_price_and_the_cabin_stays_as_it_was(db: Overlay) -> None:
    change = {
        "reservation_id": "AAA111",
        "cabin": "economy",
        "flights": [leg("HAT901"), leg("HAT903")],
        "payment_id": "gift_card_3",
    }
    reservation = call(db, "update_reservation_flights", **change).value
    assert [flight["price"] for flight in reservation["flights"]] == [105, 90]
    assert reservation["payment_history"][-1] == {"payment_id": "gift_card_3", "amount": -50}
    assert methods(db)["gift_card_3"]["amount"] == 170
    up = call(db, "update_reservation_flights", **{**change, "cabin": "business", "payment_id": "credit_card_3"}).value
    assert [flight["price"] for flight in up["flights"]] == [300, 270]
    assert up["cabin"] == "economy"


def test_flights_that_stay_for_the_same_price_leave_no_trace(db: Overlay) -> None:
    same = {
        "reservation_id": "AAA111",
        "cabin": "economy",
        "flights": [leg("HAT901"), leg("HAT902")],
        "payment_id": "gift_card_3",
    }
    assert call(db, "update_reservation_flights", **same).ok
    assert database.equal(db, airline())


def test_as_many_passengers_as_before_can_be_others(db: Overlay) -> None:
    assert refused(db, "update_reservation_passengers", reservation_id="BBB222", passengers=[CY]) == "passenger_count_mismatch"
    assert call(db, "update_reservation_passengers", reservation_id="BBB222", passengers=[CY, CY]).value["passengers"] == [CY, CY]


def test_three_certificates_are_sent_and_no_fourth(db: Overlay) -> None:
    sent = [call(db, "send_certificate", user_id="cy_lund_3333", amount=amount) for amount in (100, 50.5, 1)]
    assert [result.code for result in sent] == ["certificate_ok"] * 3
    assert methods(db)["certificate_3221323"] == {"source": "certificate", "amount": 50.5, "id": "certificate_3221323"}
    assert refused(db, "send_certificate", user_id="cy_lund_3333", amount=1) == "py_exception"
