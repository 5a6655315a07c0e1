"""The invented store and airline: databases in tau-bench's JSON form, made by seed.

Names of people, towns, streets and products are from `content/`; none is taken from anywhere. Airports are real, as
their codes are facts. The clock of both stands at NOW.

What holds in them, beside tau-bench's form: an order's items are variants of products at their prices; payments add
up to what was bought; a reservation's prices are its flights' where those are still on sale; owners list what they own.
"""

from __future__ import annotations

import hashlib
import json
import random
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from importlib import resources
from itertools import product
from typing import Any

from userrl.errors import DataError, UnknownName

Record = dict[str, Any]
Tables = dict[str, dict[str, Record]]

SEED = 11
"""Of the built-in databases."""
NOW = datetime(2024, 5, 15, 15)
"""The present, as the tools stamp it on new reservations."""
MONTH = [f"2024-05-{day:02d}" for day in range(1, 31)]
"""The days on which there are flights: the tools know no other month."""
TODAY = MONTH[14]

USERS, ORDERS, RESERVATIONS = 300, 600, 800
VARIANTS = (14, 20)
"""Variants of a product: at least and at most."""
AVAILABLE = 0.7
"""Share of variants that can be bought."""
AIRPORTS = ("SFO", "LAX", "ORD", "DFW", "DEN", "SEA", "ATL", "MIA", "BOS", "PHX", "LAS", "MSP")
CANCELLED = 0.05
"""Share of flights that are cancelled."""
ROUTES, DAILY = 25, 3
"""Pairs of airports that are connected, and flights a day in each direction."""

CABINS = ("basic_economy", "economy", "business")
FREE_BAGS: Mapping[str, Mapping[str, int]] = {
    "regular": {"basic_economy": 0, "economy": 1, "business": 2},
    "silver": {"basic_economy": 1, "economy": 2, "business": 3},
    "gold": {"basic_economy": 2, "economy": 3, "business": 4},
}
"""Membership -> cabin -> checked bags that are free for each passenger (policy)."""
BAG, INSURANCE = 50, 30
"""Dollars for a further bag, and for the insurance of a passenger. The tools compute with these."""
GOODWILL = 80
"""Dollars for each passenger of a cancelled flight (policy)."""


@cache
def content(name: str) -> Mapping[str, Any]:
    """A file of `content/`."""
    return tomllib.loads((resources.files(__package__) / "content" / f"{name}.toml").read_text("utf-8"))


def database(domain: str, seed: int = SEED) -> Tables:
    """Table -> id -> record of the store ("retail") or the airline ("airline"). A new copy on each call.

    Raises UnknownName for another domain, and DataError when the built-in database is not the recorded one: results are
    only comparable on the very same records.
    """
    makers: Mapping[str, Callable[[random.Random], Tables]] = {"retail": _retail, "airline": _airline}
    if domain not in makers:
        raise UnknownName("tau domain", domain, makers)
    made = makers[domain](random.Random(f"tau {domain}|{seed}"))
    if seed == SEED and digest(made) != recorded()[domain]:
        raise DataError(
            f"The built-in {domain} database has SHA-256 {digest(made)}, but the manifest names {recorded()[domain]}. "
            f"Restore the files of userrl.gyms.tau, or record the change in tasks/manifest.json if it is meant."
        )
    return made


def digest(tables: Tables) -> str:
    """SHA-256 of the canonical JSON of a database (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(tables, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def recorded() -> Mapping[str, str]:
    """Domain -> SHA-256 of its built-in database, from the manifest."""
    manifest = (resources.files(__package__) / "tasks" / "manifest.json").read_text("utf-8")
    return {domain: entry["sha256"] for domain, entry in json.loads(manifest)["databases"].items()}


# --- people ------------------------------------------------------------------------------------------------------


def _people(rng: random.Random, more: Callable[[], Record]) -> dict[str, Record]:
    """USERS people with distinct names; `more` gives what their domain adds."""
    bank = content("people")
    names = rng.sample(list(product(bank["first"], bank["last"])), USERS)
    found = {}
    for first, last in names:
        number = rng.randint(1000, 9999)
        email = f"{first}.{last}{rng.randint(10, 99)}@example.com".lower()
        user = {"name": {"first_name": first, "last_name": last}, "address": address(rng), "email": email, **more()}
        found[f"{first}_{last}_{number}".lower()] = user
    return found


def address(rng: random.Random) -> Record:
    """An address in an invented town."""
    town, state, zip_prefix = rng.choice(content("people")["towns"])
    street = f"{rng.randint(1, 480)} {rng.choice(content('people')['streets'])}"
    unit = f"{rng.choice(('Apt', 'Unit', 'Suite'))} {rng.randint(1, 60)}"
    zip_code = f"{zip_prefix}{rng.randint(10, 99)}"
    return {"address1": street, "address2": unit, "city": town, "country": "USA", "state": state, "zip": zip_code}


def birthday(rng: random.Random) -> str:
    return f"{rng.randint(1948, 2004)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"


def _card(rng: random.Random, key: str) -> Record:
    brand = rng.choice(("visa", "mastercard"))
    return {"source": "credit_card", "brand": brand, "last_four": f"{rng.randint(0, 9999):04d}", "id": key}


def _keys(rng: random.Random, kinds: Sequence[str]) -> list[tuple[str, str]]:
    """(kind, new id) of payment methods."""
    return [(kind, f"{kind}_{number}") for kind, number in zip(kinds, rng.sample(range(10**6, 10**7), len(kinds)), strict=True)]


# --- the store -----------------------------------------------------------------------------------------------------


def _retail(rng: random.Random) -> Tables:
    products = _products(rng)
    users = _people(rng, lambda: {"payment_methods": _store_methods(rng), "orders": []})
    orders: dict[str, Record] = {}
    owners = [*users, *rng.choices(list(users), k=ORDERS - USERS)]
    for number, owner in zip(rng.sample(range(10**6, 10**7), ORDERS), owners, strict=True):
        order = _order(rng, f"#W{number}", owner, users[owner], products)
        orders[order["order_id"]] = order
        users[owner]["orders"].append(order["order_id"])
    return {"orders": orders, "products": products, "users": users}


def _products(rng: random.Random) -> dict[str, Record]:
    ids = iter(rng.sample(range(10**9, 10**10), 2_000))
    found = {}
    for name, spec in content("products").items():
        options = {option: values for option, values in spec.items() if option != "price"}
        combinations = list(product(*options.values()))
        chosen = rng.sample(combinations, min(len(combinations), rng.randint(*VARIANTS)))
        variants = {}
        for values in chosen:
            item = str(next(ids))
            price = round(spec["price"] * rng.uniform(0.85, 1.15), 2)
            named = dict(zip(options, values, strict=True))
            variants[item] = {"item_id": item, "options": named, "available": rng.random() < AVAILABLE, "price": price}
        key = str(next(ids))
        found[key] = {"name": name, "product_id": key, "variants": variants}
    return found


def _store_methods(rng: random.Random) -> dict[str, Record]:
    """One to four ways to pay: never two PayPal accounts or gift cards."""
    kinds = [
        kind
        for kind, share in (("credit_card", 0.8), ("credit_card", 0.2), ("paypal", 0.5), ("gift_card", 0.5))
        if rng.random() < share
    ]
    methods = {}
    for kind, key in _keys(rng, kinds or ["credit_card"]):
        if kind == "credit_card":
            methods[key] = _card(rng, key)
        elif kind == "paypal":
            methods[key] = {"source": kind, "id": key}
        else:
            methods[key] = {"source": kind, "balance": round(rng.uniform(0, 300), 2), "id": key}
    return methods


def _order(rng: random.Random, key: str, owner: str, user: Record, products: Mapping[str, Record]) -> Record:
    status = rng.choices(("pending", "processed", "delivered", "cancelled"), (42, 10, 40, 8))[0]
    items = []
    for kind in rng.sample(list(products.values()), rng.choices((1, 2, 3, 4), (25, 35, 25, 15))[0]):
        variant = rng.choice(list(kind["variants"].values()))
        entry = {"name": kind["name"], "product_id": kind["product_id"], "item_id": variant["item_id"]}
        items.append({**entry, "price": variant["price"], "options": dict(variant["options"])})
    method, total = rng.choice(list(user["payment_methods"])), round(sum(item["price"] for item in items), 2)
    order: Record = {
        "order_id": key,
        "user_id": owner,
        "address": dict(user["address"]) if rng.random() < 0.8 else address(rng),
        "items": items,
        "fulfillments": [],
        "status": status,
        "payment_history": [{"transaction_type": "payment", "amount": total, "payment_method_id": method}],
    }
    if status == "cancelled":
        order["payment_history"].append({"transaction_type": "refund", "amount": total, "payment_method_id": method})
        order["cancel_reason"] = rng.choice(("no longer needed", "ordered by mistake"))
    if status in ("processed", "delivered"):
        parcel = {"tracking_id": [str(rng.randint(10**11, 10**12 - 1))], "item_ids": [item["item_id"] for item in items]}
        order["fulfillments"].append(parcel)
    return order


# --- the airline ---------------------------------------------------------------------------------------------------


def _airline(rng: random.Random) -> Tables:
    flights = _flights(rng)
    users = _people(rng, lambda: _flyer(rng))
    for user in users.values():
        others = [_passenger(rng) for _ in range(rng.randint(0, 3))]
        user["saved_passengers"] = others
    reservations: dict[str, Record] = {}
    owners = [*users, *rng.choices(list(users), k=RESERVATIONS - USERS)]
    keys = _reservation_ids(rng)
    by_route: dict[tuple[str, str], list[Record]] = {}
    for flight in flights.values():
        by_route.setdefault((flight["origin"], flight["destination"]), []).append(flight)
    for owner in owners:
        made = _reservation(rng, next(keys), owner, users[owner], by_route)
        reservations[made["reservation_id"]] = made
        users[owner]["reservations"].append(made["reservation_id"])
    return {"flights": flights, "reservations": reservations, "users": users}


def _reservation_ids(rng: random.Random) -> Iterator[str]:
    """Three letters, a digit, and two of either, so that none is a word."""
    letters, digits, seen = "ABCDEFGHJKLMNPQRSTUVWXYZ", "23456789", set[str]()
    while True:
        key = (
            "".join(rng.choice(letters) for _ in range(3))
            + rng.choice(digits)
            + "".join(rng.choice(letters + digits) for _ in range(2))
        )
        if key not in seen:
            seen.add(key)
            yield key


def _flyer(rng: random.Random) -> Record:
    kinds = [
        kind
        for kind, share in (("credit_card", 1.0), ("credit_card", 0.2), ("gift_card", 0.5), ("certificate", 0.3))
        if rng.random() < share
    ]
    methods = {}
    for kind, key in _keys(rng, kinds):
        amount = rng.randrange(50, 500, 10) if kind == "gift_card" else rng.choice((100, 150, 200))
        methods[key] = _card(rng, key) if kind == "credit_card" else {"source": kind, "amount": amount, "id": key}
    return {
        "dob": birthday(rng),
        "payment_methods": methods,
        "saved_passengers": [],
        "membership": rng.choices(("regular", "silver", "gold"), (5, 3, 2))[0],
        "reservations": [],
    }


def _passenger(rng: random.Random) -> Record:
    bank = content("people")
    return {"first_name": rng.choice(bank["first"]), "last_name": rng.choice(bank["last"]), "dob": birthday(rng)}


def _flights(rng: random.Random) -> dict[str, Record]:
    pairs = [(a, b) for i, a in enumerate(AIRPORTS) for b in AIRPORTS[i + 1 :]]
    found: dict[str, Record] = {}
    for one, other in rng.sample(pairs, ROUTES):
        minutes = rng.randrange(75, 330, 5)
        for origin, destination in ((one, other), (other, one)):
            for hour in rng.sample(range(6, 22), DAILY):
                start = NOW.replace(hour=hour, minute=rng.randrange(0, 60, 5))
                end = start + timedelta(minutes=minutes)
                number = f"LK{100 + len(found)}"
                found[number] = {
                    "flight_number": number,
                    "origin": origin,
                    "destination": destination,
                    "scheduled_departure_time_est": f"{start:%H:%M}:00",
                    "scheduled_arrival_time_est": f"{end:%H:%M}:00" + ("+1" if end.date() > start.date() else ""),
                    "dates": {date: _day(rng, date, start, end) for date in MONTH},
                }
    return found


def _day(rng: random.Random, date: str, start: datetime, end: datetime) -> Record:
    """A flight on a date: as it went, or its seats and prices where it is still to go."""
    day = datetime.fromisoformat(date)
    late = timedelta(minutes=rng.randint(-10, 40))
    left = datetime.combine(day, start.time()) + late
    landed = left + (end - start)
    if rng.random() < CANCELLED:
        return {"status": "cancelled"}
    if landed < NOW:
        times = {"actual_departure_time_est": left.isoformat(), "actual_arrival_time_est": landed.isoformat()}
        return {"status": "landed", **times}
    if left < NOW:
        return {
            "status": "flying",
            "actual_departure_time_est": left.isoformat(),
            "estimated_arrival_time_est": landed.isoformat(),
        }
    if date == TODAY:
        status = "delayed" if late > timedelta(minutes=20) else "on time"
        return {
            "status": status,
            "estimated_departure_time_est": left.isoformat(),
            "estimated_arrival_time_est": landed.isoformat(),
        }
    economy = rng.randint(95, 240)
    prices = dict(zip(CABINS, (economy - rng.randint(25, 45), economy, economy * 2 + rng.randint(10, 90)), strict=True))
    return {"status": "available", "available_seats": {cabin: rng.randint(0, 18) for cabin in CABINS}, "prices": prices}


def _reservation(
    rng: random.Random, key: str, owner: str, user: Record, by_route: Mapping[tuple[str, str], Sequence[Record]]
) -> Record:
    """A direct trip, there and maybe back, made by the user for one to four people and paid with one card."""
    (origin, destination), there = rng.choice(list(by_route.items()))
    cabin = rng.choices(CABINS, (3, 5, 2))[0]
    day = rng.choice((rng.randint(2, 12), rng.randint(18, 28), rng.randint(18, 28)))
    legs = [(rng.choice(there), MONTH[day - 1])]
    round_trip = rng.random() < 0.4
    if round_trip:
        legs.append((rng.choice(by_route[destination, origin]), MONTH[min(day + rng.randint(1, 5), 30) - 1]))
    flights = []
    for flight, date in legs:
        status = flight["dates"][date]
        price = status["prices"][cabin] if "prices" in status else rng.randint(60, 120) * (CABINS.index(cabin) + 1)
        route = {"origin": flight["origin"], "destination": flight["destination"]}
        flights.append({**route, "flight_number": flight["flight_number"], "date": date, "price": price})
    myself = {**user["name"], "dob": user["dob"]}
    passengers = [myself, *(_passenger(rng) for _ in range(rng.choices((0, 1, 2, 3), (6, 3, 1, 1))[0]))]
    free = FREE_BAGS[user["membership"]][cabin] * len(passengers)
    total_bags = rng.randint(0, free + 1) if free < 4 else rng.randint(0, 3)
    nonfree = max(0, total_bags - free)
    insured = rng.random() < 0.35
    cost = sum(flight["price"] for flight in flights) + INSURANCE * insured
    total = cost * len(passengers) + BAG * nonfree
    latest = min(NOW, datetime.fromisoformat(legs[0][1]) - timedelta(days=1))
    earliest = latest - timedelta(days=12) if rng.random() < 0.85 else latest - timedelta(hours=20)
    made = earliest + (latest - earliest) * rng.random()
    card = rng.choice([key for key, method in user["payment_methods"].items() if method["source"] == "credit_card"])
    return {
        "reservation_id": key,
        "user_id": owner,
        "origin": origin,
        "destination": destination,
        "flight_type": "round_trip" if round_trip else "one_way",
        "cabin": cabin,
        "flights": flights,
        "passengers": passengers,
        "payment_history": [{"payment_id": card, "amount": total}],
        "created_at": made.replace(microsecond=0).isoformat(),
        "total_baggages": total_bags,
        "nonfree_baggages": nonfree,
        "insurance": "yes" if insured else "no",
    }
