"""The invented store and airline: made the same each time, and coherent."""

import re
from collections import Counter
from datetime import datetime
from itertools import combinations

import pytest

from userrl.errors import DataError, UnknownName
from userrl.gyms.tau import world
from userrl.gyms.tau.tools.airline import AIRPORTS, BAGGAGE_PRICE, INSURANCE_PRICE
from userrl.gyms.tau.tools.airline import NOW as TOOLS_NOW
from userrl.gyms.tau.world import Record, content, database, digest, recorded

STORE, AIRLINE = database("retail"), database("airline")


@pytest.mark.parametrize("domain", ["retail", "airline"])
def test_a_database_is_the_recorded_one_and_a_new_copy_each_time(domain: str) -> None:
    one, other = database(domain), database(domain)
    assert digest(one) == digest(other) == recorded()[domain]
    one["users"].clear()
    assert other["users"]
    assert digest(database(domain, seed=5)) != recorded()[domain]


def test_a_database_that_is_not_the_recorded_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "AVAILABLE", 0.5)
    with pytest.raises(DataError, match="built-in retail database has SHA-256"):
        database("retail")
    assert database("airline")


def test_there_is_no_third_domain() -> None:
    with pytest.raises(UnknownName, match="retial"):
        database("retial")


def test_the_sizes_are_as_promised() -> None:
    assert {table: len(rows) for table, rows in STORE.items()} == {"orders": 600, "products": 40, "users": 300}
    assert {table: len(rows) for table, rows in AIRLINE.items()} == {"flights": 150, "reservations": 800, "users": 300}


@pytest.mark.parametrize("tables", [STORE, AIRLINE])
def test_people_can_be_told_apart(tables: world.Tables) -> None:
    users = list(tables["users"].values())
    assert len({user["email"] for user in users}) == len(users)
    assert len({(*user["name"].values(), user["address"]["zip"]) for user in users}) == len(users)
    for user in users:
        named = [(m["source"], m.get("last_four")) for m in user["payment_methods"].values()]
        assert named and len(set(named)) == len(named), "a user names a method by its kind and last digits"
        assert all(key == method["id"] for key, method in user["payment_methods"].items())


def test_owners_list_what_they_own_and_nothing_else() -> None:
    for tables, table, field in ((STORE, "orders", "orders"), (AIRLINE, "reservations", "reservations")):
        listed = Counter(key for user in tables["users"].values() for key in user[field])
        assert set(listed) == set(tables[table]) and set(listed.values()) == {1}
        for key, record in tables[table].items():
            assert key in tables["users"][record["user_id"]][field]


# --- the store ---------------------------------------------------------------------------------------------------


def test_the_items_of_an_order_are_variants_at_their_prices() -> None:
    for order in STORE["orders"].values():
        assert len({item["product_id"] for item in order["items"]}) == len(order["items"]) > 0
        for item in order["items"]:
            product = STORE["products"][item["product_id"]]
            variant = product["variants"][item["item_id"]]
            assert (item["name"], item["price"], item["options"]) == (product["name"], variant["price"], variant["options"])


def test_the_payments_of_an_order_add_up() -> None:
    for order in STORE["orders"].values():
        total = round(sum(item["price"] for item in order["items"]), 2)
        kinds = ["payment", "refund"] if order["status"] == "cancelled" else ["payment"]
        assert [(p["transaction_type"], p["amount"]) for p in order["payment_history"]] == [(kind, total) for kind in kinds]
        methods = STORE["users"][order["user_id"]]["payment_methods"]
        assert {p["payment_method_id"] for p in order["payment_history"]} <= set(methods)
        assert bool(order["fulfillments"]) is (order["status"] in ("processed", "delivered"))
        assert ("cancel_reason" in order) is (order["status"] == "cancelled")


def test_no_two_variants_of_a_product_have_the_same_options() -> None:
    ids = []
    for product in STORE["products"].values():
        options = [tuple(variant["options"].items()) for variant in product["variants"].values()]
        assert len(set(options)) == len(options) >= 12
        assert any(variant["available"] for variant in product["variants"].values())
        ids += list(product["variants"])
    assert len(set(ids)) == len(ids) and not set(ids) & set(STORE["products"])


def test_no_word_for_an_option_or_a_product_is_hidden_in_another() -> None:
    def holds(text: str, part: str) -> bool:
        return re.search(rf"(?<!\w){re.escape(part.lower())}(?!\w)", text.lower()) is not None

    for one, other in combinations(content("products"), 2):
        assert not holds(one, other) and not holds(other, one)
    for name, spec in content("products").items():
        values = [value for option, several in spec.items() if option != "price" for value in several]
        assert len(set(values)) == len(values)
        assert not any(holds(name, value) for value in values)
        assert not any(holds(one, other) or holds(other, one) for one, other in combinations(values, 2)), name


# --- the airline ---------------------------------------------------------------------------------------------------


def test_the_constants_are_those_of_the_tools() -> None:
    assert (world.BAG, world.INSURANCE, world.NOW.isoformat()) == (BAGGAGE_PRICE, INSURANCE_PRICE, TOOLS_NOW)
    assert set(world.AIRPORTS) <= set(AIRPORTS)


def test_flights_have_gone_or_are_to_come_by_the_clock() -> None:
    for flight in AIRLINE["flights"].values():
        assert list(flight["dates"]) == world.MONTH
        for date, day in flight["dates"].items():
            past = {"landed", "cancelled"} if date < world.TODAY else set()
            today = {"landed", "flying", "on time", "delayed", "cancelled"} if date == world.TODAY else set()
            # the last flights of yesterday may still be in the air
            late = {"flying"} if date == world.MONTH[13] else set()
            assert day["status"] in (past | today | late or {"available", "cancelled"})
            if day["status"] == "available":
                cheap, middle, dear = (day["prices"][cabin] for cabin in world.CABINS)
                assert 0 < cheap < middle < dear
                assert all(seats >= 0 for seats in day["available_seats"].values())


def test_a_reservation_fits_its_flights_its_owner_and_what_was_paid() -> None:
    for trip in AIRLINE["reservations"].values():
        user = AIRLINE["users"][trip["user_id"]]
        route = [(leg["origin"], leg["destination"]) for leg in trip["flights"]]
        there = (trip["origin"], trip["destination"])
        assert route == ([there, there[::-1]] if trip["flight_type"] == "round_trip" else [there])
        dates = [leg["date"] for leg in trip["flights"]]
        assert dates == sorted(set(dates))
        for leg in trip["flights"]:
            flight = AIRLINE["flights"][leg["flight_number"]]
            assert (flight["origin"], flight["destination"]) == (leg["origin"], leg["destination"])
            day = flight["dates"][leg["date"]]
            assert leg["price"] == day["prices"][trip["cabin"]] if "prices" in day else leg["price"] > 0
        assert trip["passengers"][0] == {**user["name"], "dob": user["dob"]}
        free = world.FREE_BAGS[user["membership"]][trip["cabin"]] * len(trip["passengers"])
        assert trip["nonfree_baggages"] == max(0, trip["total_baggages"] - free)
        [payment] = trip["payment_history"]
        assert payment["amount"] == price_of(trip)
        assert payment["payment_id"] in user["payment_methods"]
        made = datetime.fromisoformat(trip["created_at"])
        assert made <= world.NOW and made < datetime.fromisoformat(dates[0])


def price_of(trip: Record) -> int:
    fares: int = sum(leg["price"] for leg in trip["flights"]) + world.INSURANCE * (trip["insurance"] == "yes")
    return fares * len(trip["passengers"]) + world.BAG * int(trip["nonfree_baggages"])
