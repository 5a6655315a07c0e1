"""The built-in tasks: each is proven. What has to be done can be done, is allowed, changes what it should and nothing else."""

import re
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from userrl.core import Task
from userrl.data import split_of
from userrl.errors import ConfigError
from userrl.gyms.base import make
from userrl.gyms.tau import database, generate, texts, tools
from userrl.gyms.tau.airline_goals import MAKERS as AIRLINE_MAKERS
from userrl.gyms.tau.database import Overlay
from userrl.gyms.tau.generate import KINDS, tasks
from userrl.gyms.tau.goals import method_name
from userrl.gyms.tau.retail_goals import MAKERS as RETAIL_MAKERS
from userrl.gyms.tau.tools.airline import AIRPORTS
from userrl.gyms.tau.world import CABINS, FREE_BAGS, GOODWILL, NOW, TODAY, Record

GYM = make("tau")
TASKS = [task for split in ("train", "validation", "test") for task in GYM.tasks(split)]
FORBIDDEN = {
    *("cancel_shipped", "cancel_reason", "foreign_order", "return_method", "exchange_other", "exchange_sold_out"),
    *("address_shipped", "payment_short", "cancel_denied", "cancel_flown", "flights_basic", "destination", "fewer_bags"),
    *("insurance", "fewer_people", "no_compensation"),
}
ANSWERS = {"count", "amount_return", "amount_exchange", "amount_book"}


def kinds(task: Task) -> list[str]:
    """The kinds of its goals, in order."""
    return [part.removeprefix("same ") for part in re.split(r" [+|] ", task.hidden["script"]["kind"])]


def record(task: Task, table: str, key: str) -> Record:
    """A record before anything was done."""
    found: Record = database.load(task.hidden["database"]).tables[table][key]
    return found


def user_of(task: Task) -> Record:
    return record(task, "users", task.hidden["user_id"])


def done(task: Task) -> Overlay:
    """The database after the ground truth, each call of which succeeds."""
    db = Overlay(database.load(task.hidden["database"]))
    for call in task.hidden["actions"]:
        result = tools.call(task.hidden["domain"], db, call["name"], call["arguments"])
        assert result.ok, (task.id, call, result)
    return db


# --- all of them -------------------------------------------------------------------------------------------------


def test_there_are_enough_of_each_domain_in_each_split() -> None:
    counts = {split: Counter(task.hidden["domain"] for task in GYM.tasks(split)) for split in ("train", "validation", "test")}
    assert counts["test"]["retail"] >= 60 and counts["test"]["airline"] >= 30
    assert counts["train"]["retail"] >= 300 and counts["train"]["airline"] >= 150
    assert min(counts["validation"].values()) >= 20


def test_every_kind_of_task_is_there_and_every_kind_of_goal_in_the_test_split() -> None:
    assert {task.hidden["script"]["kind"] for task in TASKS} == {kind for of in KINDS.values() for kind in of}
    assert {kind for task in GYM.tasks("test") for kind in kinds(task)} >= {*RETAIL_MAKERS, *AIRLINE_MAKERS}


def test_a_task_is_in_the_split_of_its_id_and_no_two_are_the_same() -> None:
    for split in ("train", "validation", "test"):
        assert {split_of(task.id) for task in GYM.tasks(split)} == {split}
    assert len({task.id for task in TASKS}) == len(TASKS)
    assert len({task.hidden["instruction"] for task in TASKS}) == len(TASKS)


def test_tasks_are_made_by_seed() -> None:
    assert tasks(3, 2, seed=8) == tasks(3, 2, seed=8) != tasks(3, 2, seed=9)
    assert [task.id for task in tasks(5, 0, seed=8)][:3] == [task.id for task in tasks(3, 0, seed=8)]


def test_more_tasks_than_there_are_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS["airline"], "none", 0)  # keeps the table ours to change
    monkeypatch.setattr(generate, "KINDS", {"airline": {"flights + same bags": 1}, "retail": {}})
    monkeypatch.setattr(generate, "TRIES", 30)
    with pytest.raises(ConfigError, match=r"gives only \d+ distinct tasks"):
        tasks(0, 5_000, seed=1)
    with pytest.raises(ConfigError, match="retail is -1"):
        tasks(-1, 0, seed=1)


def test_the_policies_hold_nothing_that_is_hidden_but_the_name_of_a_cabin() -> None:
    policies = {domain: " ".join(texts.load(domain).policy.casefold().split()) for domain in ("retail", "airline")}
    told = {
        text
        for task in TASKS
        for text in strings(task.hidden)
        if len(text) >= 12 and text.casefold() in policies[task.hidden["domain"]]
    }
    assert {text.casefold().removeprefix("in ").rstrip(".") for text in told} == {"basic economy"}


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in items for text in strings(item)]


# --- what has to be done -----------------------------------------------------------------------------------------


def test_the_ground_truth_succeeds_and_changes_the_records_it_is_about_and_no_others() -> None:
    for task in TASKS:
        own = task.hidden["user_id"]
        named = {
            value
            for call in task.hidden["actions"]
            for name, value in call["arguments"].items()
            if name in ("order_id", "reservation_id")
        }
        expected = named | ({"HATHAT"} if "book" in kinds(task) else set())
        changed = {key for key, value in done(task).changed().items() if value != before(task, *key)}
        assert expected <= {key for _, key in changed} <= expected | {own}, task.id


def before(task: Task, table: str, key: str) -> Record | None:
    return database.load(task.hidden["database"]).tables[table].get(key)


def test_a_task_says_that_nothing_changes_exactly_where_nothing_does() -> None:
    for task in TASKS:
        changed = any(value != before(task, *key) for key, value in done(task).changed().items())
        assert changed is not task.hidden["unchanged"], task.id


def test_forbidden_goals_and_mere_answers_take_no_call_and_all_others_one_each() -> None:
    for task in TASKS:
        assert len(task.hidden["actions"]) == sum(kind not in FORBIDDEN | ANSWERS for kind in kinds(task)), task.id
        assert len(task.hidden["outputs"]) == sum(kind in ANSWERS for kind in kinds(task)), task.id


def test_what_is_written_fits_the_kind_of_goal() -> None:
    by_kind = {
        "cancel": "cancel_pending_order",
        "return": "return_delivered_order_items",
        "exchange": "exchange_delivered_order_items",
        "modify": "modify_pending_order_items",
        "order_address": "modify_pending_order_address",
        "order_payment": "modify_pending_order_payment",
        "user_address": "modify_user_address",
        "cancel_trip": "cancel_reservation",
        "flights": "update_reservation_flights",
        "cabin": "update_reservation_flights",
        "bags": "update_reservation_baggages",
        "passenger": "update_reservation_passengers",
        "book": "book_reservation",
        "compensation": "send_certificate",
    }
    for task in TASKS:
        expected = [by_kind[kind] for kind in kinds(task) if kind in by_kind]
        assert [call["name"] for call in task.hidden["actions"]] == expected


def test_only_what_is_the_users_is_touched() -> None:
    for task in TASKS:
        user = user_of(task)
        for call in task.hidden["actions"]:
            arguments = call["arguments"]
            assert arguments.get("user_id", task.hidden["user_id"]) == task.hidden["user_id"]
            assert arguments.get("order_id") in (None, *user.get("orders", ()))
            assert arguments.get("reservation_id") in (None, *user.get("reservations", ()))


# --- the policy of the store -------------------------------------------------------------------------------------


def calls(name: str) -> list[tuple[Task, Record]]:
    return [(task, call["arguments"]) for task in TASKS for call in task.hidden["actions"] if call["name"] == name]


def test_refunds_of_returns_go_to_the_method_of_the_order_or_a_gift_card() -> None:
    for task, made in calls("return_delivered_order_items"):
        paid = record(task, "orders", made["order_id"])["payment_history"][0]["payment_method_id"]
        source = user_of(task)["payment_methods"][made["payment_method_id"]]["source"]
        assert made["payment_method_id"] == paid or source == "gift_card"


def test_a_change_of_options_leads_to_one_variant_which_the_instruction_names() -> None:
    made = [*calls("exchange_delivered_order_items"), *calls("modify_pending_order_items")]
    assert made
    for task, arguments in made:
        order = record(task, "orders", arguments["order_id"])
        held = {item["item_id"]: item for item in order["items"]}
        for old, new in zip(arguments["item_ids"], arguments["new_item_ids"], strict=True):
            variants = record(task, "products", held[old]["product_id"])["variants"]
            wanted = variants[new]["options"]
            changed = {option: value for option, value in wanted.items() if held[old]["options"][option] != value}
            wishes = [f"{option} {value}" for option, value in changed.items()]
            text = f"{held[old]['name'].lower()} for one with {' and '.join(wishes)}"
            assert 1 <= len(changed) <= 2 and text in task.hidden["instruction"]
            fits = [key for key, v in variants.items() if v["options"] == {**held[old]["options"], **changed}]
            assert fits == [new] and variants[new]["available"]


def test_forbidden_wishes_in_the_store_are_forbidden_by_its_policy() -> None:
    for task in TASKS:
        goals = dict(zip(kinds(task), task.hidden["script"]["goals"], strict=True))
        for kind in FORBIDDEN & set(goals) & set(RETAIL_MAKERS):
            order = order_meant(task, goals[kind])
            facts, methods = goals[kind]["facts"], user_of(task)["payment_methods"]
            paid = order["payment_history"][0]
            if kind in ("cancel_shipped", "address_shipped"):
                assert order["status"] in ("processed", "delivered")
            elif kind == "cancel_reason":
                assert not re.search(r"mistake|accident|need", facts["reason"]["says"])
            elif kind == "foreign_order":
                assert order["user_id"] != task.hidden["user_id"]
            elif kind == "return_method":
                [key] = [key for key, m in methods.items() if method_name(m) == facts["method"]["value"]]
                assert key != paid["payment_method_id"] and methods[key]["source"] != "gift_card"
            elif kind == "payment_short":
                [card] = [m for m in methods.values() if m["source"] == "gift_card"]
                assert facts["method"]["value"] == "gift card" and card["balance"] < paid["amount"]
            elif kind == "exchange_other":
                other = re.search(r"\ba ([a-z ]+) in place", facts["change"]["value"])
                assert other and other[1] not in [item["name"].lower() for item in order["items"]]
            else:
                [item] = [item for item in order["items"] if item["name"].lower() == facts["items"]["value"]]
                variants = record(task, "products", item["product_id"])["variants"].values()
                wanted = [v for v in variants if all(word in facts["change"]["value"] for word in new(item, v))]
                assert [v["available"] for v in wanted if new(item, v)] == [False]


def new(item: Record, variant: Record) -> list[str]:
    return [f"{option} {value}" for option, value in variant["options"].items() if item["options"][option] != value]


def order_meant(task: Task, goal: Record) -> Record:
    """The order that a goal is about, as the user names it: by its number, or by an item that no other has."""
    value = goal["facts"]["order"]["value"]
    if value.startswith("#"):
        return record(task, "orders", value)
    mine = [record(task, "orders", key) for key in user_of(task)["orders"]]
    name = value.removeprefix("the one with the ")
    [order] = [order for order in mine if name in [item["name"].lower() for item in order["items"]]]
    return order


def test_numbers_that_have_to_be_said_are_those_of_the_records() -> None:
    for task in TASKS:
        for output in task.hidden["outputs"]:
            assert not output.endswith(".0"), "5 stands in 5.00, 5.0 does not stand in 5"
            kind = next(kind for kind in kinds(task) if kind in ANSWERS)
            db = done(task)
            if kind == "count":
                item = re.search(
                    r"(?:variants of the|kinds of) ([a-z ]+?) (?:are available|can be bought)", task.hidden["instruction"]
                )
                assert item
                products = database.load("retail").tables["products"].values()
                [product] = [p for p in products if p["name"].lower() == item[1]]
                assert output == str(sum(v["available"] for v in product["variants"].values()))
            elif kind == "amount_book":
                booked = db.get("reservations", "HATHAT")
                assert booked and output == str(sum(payment["amount"] for payment in booked["payment_history"]))
            else:
                arguments = task.hidden["actions"][0]["arguments"]
                order = db.get("orders", arguments["order_id"])
                assert order
                if kind == "amount_exchange":
                    assert float(output) == abs(order["exchange_price_difference"])
                else:
                    total = sum(item["price"] for item in order["items"] if item["item_id"] in order["return_items"])
                    assert float(output) == round(total, 2)


# --- the policy of the airline -------------------------------------------------------------------------------------


def may_cancel(task: Task, trip: Record, why: str) -> bool:
    """As the policy says it."""
    recent = datetime.fromisoformat(trip["created_at"]) > NOW - timedelta(hours=24)
    dropped = any(day_of(leg)["status"] == "cancelled" for leg in trip["flights"])
    insured = trip["insurance"] == "yes" and re.search(r"\bill\b|leg|sick|storm|weather", why) is not None
    ahead = all(leg["date"] > TODAY for leg in trip["flights"])
    return ahead and (recent or dropped or insured or trip["cabin"] == "business")


def day_of(leg: Record) -> Record:
    day: Record = database.load("airline").tables["flights"][leg["flight_number"]]["dates"][leg["date"]]
    return day


def trip_meant(task: Task, goal: Record) -> Record:
    """The reservation that a goal is about: by its code, or by a route that no other has."""
    value = goal["facts"]["reservation"]["value"]
    mine = [record(task, "reservations", key) for key in user_of(task)["reservations"]]
    if re.fullmatch(r"[A-Z0-9]{6}", value):
        [trip] = [trip for trip in mine if trip["reservation_id"] == value]
        return trip
    cities = {code: f"from {city}" for code, city in AIRPORTS.items()}
    goals = {code: f"to {city}" for code, city in AIRPORTS.items()}
    [trip] = [trip for trip in mine if value == f"the one {cities[trip['origin']]} {goals[trip['destination']]}"]
    return trip


def test_a_trip_is_cancelled_just_where_the_policy_allows_it() -> None:
    seen = set()
    for task in TASKS:
        for kind, goal in zip(kinds(task), task.hidden["script"]["goals"], strict=True):
            if kind in ("cancel_trip", "cancel_denied", "cancel_flown"):
                trip = trip_meant(task, goal)
                assert may_cancel(task, trip, goal["facts"]["reason"]["says"]) is (kind == "cancel_trip"), task.id
                seen.add(kind)
    assert len(seen) == 3


def test_flights_are_changed_only_outside_of_basic_economy_and_to_the_one_that_was_described() -> None:
    for task, made in calls("update_reservation_flights"):
        trip = record(task, "reservations", made["reservation_id"])
        assert all(leg["date"] > TODAY for leg in trip["flights"])
        if made["cabin"] != trip["cabin"]:
            assert CABINS.index(made["cabin"]) > CABINS.index(trip["cabin"])
            assert [(leg["flight_number"], leg["date"]) for leg in trip["flights"]] == [
                tuple(leg.values()) for leg in made["flights"]
            ]
            continue
        assert trip["cabin"] != "basic_economy" and trip["flight_type"] == "one_way"
        [leg] = made["flights"]
        the_one_described(task, trip["origin"], trip["destination"], leg, made["cabin"])


def the_one_described(task: Task, origin: str, destination: str, leg: Record, cabin: str) -> None:
    """Exactly one flight of the day fits the words of the instruction, and it is this one."""
    db = Overlay(database.load("airline"))
    arguments = {"origin": origin, "destination": destination, "date": leg["date"]}
    found = tools.call("airline", db, "search_direct_flight", arguments).value
    words = re.search(r"the (cheapest|earliest|latest) flight of (?:that day|the day)", task.hidden["instruction"])
    assert words, task.id
    cheapest = words[1] == "cheapest"

    def key(flight: Record) -> Any:
        return flight["prices"][cabin] if cheapest else flight["scheduled_departure_time_est"]

    best = (max if words[1] == "latest" else min)(map(key, found))
    assert [f["flight_number"] for f in found if key(f) == best] == [leg["flight_number"]], task.id


def test_bookings_are_as_the_instruction_says() -> None:
    for task, made in calls("book_reservation"):
        text, user = task.hidden["instruction"], user_of(task)
        [leg] = made["flights"]
        the_one_described(task, made["origin"], made["destination"], leg, made["cabin"])
        assert f"May {int(leg['date'][-2:])}:" in text
        assert f"in {made['cabin'].replace('_', ' ')}, for" in text
        assert ("no insurance" in text) is (made["insurance"] == "no")
        number = ["no", "one", "two", "three"][made["total_baggages"]]
        assert f"with {number} checked bag" in text
        free = FREE_BAGS[user["membership"]][made["cabin"]] * len(made["passengers"])
        assert made["nonfree_baggages"] == max(0, made["total_baggages"] - free)
        [payment] = made["payment_methods"]
        assert method_name(user["payment_methods"][payment["payment_id"]]) in text
        assert all(f"{p['first_name']} {p['last_name']} (born {p['dob']})" in text for p in made["passengers"][1:])


def test_bags_are_only_added_and_free_ones_are_counted_by_membership() -> None:
    for task, made in calls("update_reservation_baggages"):
        trip = record(task, "reservations", made["reservation_id"])
        free = FREE_BAGS[user_of(task)["membership"]][trip["cabin"]] * len(trip["passengers"])
        assert trip["total_baggages"] < made["total_baggages"] <= trip["total_baggages"] + 2
        assert made["nonfree_baggages"] == max(0, made["total_baggages"] - free)


def test_certificates_go_only_to_those_who_may_have_them() -> None:
    granted = 0
    for task in TASKS:
        for kind, goal in zip(kinds(task), task.hidden["script"]["goals"], strict=True):
            if kind not in ("compensation", "no_compensation"):
                continue
            trip, user = trip_meant(task, goal), user_of(task)
            assert any(day_of(leg)["status"] == "cancelled" for leg in trip["flights"])
            entitled = user["membership"] != "regular" or trip["insurance"] == "yes" or trip["cabin"] == "business"
            assert entitled is (kind == "compensation"), task.id
            if entitled:
                [call] = task.hidden["actions"]
                assert call["arguments"]["amount"] == GOODWILL * len(trip["passengers"])
                granted += 1
    assert granted


def test_other_forbidden_wishes_of_travelers_are_forbidden_by_the_policy() -> None:
    for task in TASKS:
        for kind, goal in zip(kinds(task), task.hidden["script"]["goals"], strict=True):
            if kind in {"flights_basic", "fewer_bags", "insurance", "fewer_people", "destination"}:
                trip = trip_meant(task, goal)
                assert kind != "flights_basic" or trip["cabin"] == "basic_economy"
                assert kind != "fewer_bags" or trip["total_baggages"] > 0
                assert kind != "insurance" or trip["insurance"] == "no"
                assert kind != "fewer_people" or len(trip["passengers"]) > 1


# --- instruction and script ----------------------------------------------------------------------------------------


def test_the_instruction_names_the_user_and_how_it_is_found() -> None:
    for task in TASKS:
        user, text = user_of(task), task.hidden["instruction"]
        assert f"You are {user['name']['first_name']} {user['name']['last_name']}" in text
        found = task.hidden["user_id"] in text if task.hidden["domain"] == "airline" else user["address"]["zip"] in text
        assert found, task.id
        assert task.hidden["domain"] == "airline" or (user["email"] in text) is ("do not remember" not in text)


def test_the_instruction_tells_what_the_script_tells() -> None:
    """Payment methods, dates, addresses, names and cabins are the same in both."""
    for task in TASKS:
        for goal in task.hidden["script"]["goals"]:
            for topic in ("method", "address", "date", "cabin", "flight"):
                value = goal["facts"].get(topic, {}).get("value", "")
                shown = "the way you paid" if value == "the original payment method" else value
                assert shown in task.hidden["instruction"], (task.id, topic)


def test_only_what_follows_a_refusal_is_otherwise() -> None:
    for task in TASKS:
        flags = [goal["otherwise"] for goal in task.hidden["script"]["goals"]]
        assert flags == [False, "|" in task.hidden["script"]["kind"]][: len(flags)]


def test_a_user_names_a_payment_method_by_words_that_fit_no_other() -> None:
    for task in TASKS:
        names = [method_name(method) for method in user_of(task)["payment_methods"].values()]
        for goal in task.hidden["script"]["goals"]:
            value = goal["facts"].get("method", {}).get("value", "")
            assert value in ("", "the original payment method") or names.count(value) == 1, task.id
