"""What travelers want, by kind."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial

from userrl.gyms.tau.goals import (
    FORGOTTEN,
    NAMED,
    NUMBER_WORDS,
    Draw,
    Fact,
    Goal,
    Maker,
    Named,
    amount,
    amount_of,
    call,
    full_name,
    id_check,
    method_check,
    method_name,
    named_again,
)
from userrl.gyms.tau.tools.airline import AIRPORTS as CITIES
from userrl.gyms.tau.world import BAG, CABINS, FREE_BAGS, GOODWILL, INSURANCE, NOW, TODAY, Record, birthday, content


def named_trip(d: Draw, trip: Record, kind: str) -> Named:
    key = trip["reservation_id"]
    mine = [d.tables["reservations"][other] for other in d.user["reservations"]]
    if d.same:
        return named_again(d, "reservation", kind)
    cities = {"origin": CITIES[trip["origin"]], "destination": CITIES[trip["destination"]]}
    same = [other for other in mine if (other["origin"], other["destination"]) == (trip["origin"], trip["destination"])]
    draw = d.rng.random()
    if d.alone and draw < FORGOTTEN and len(same) == 1 and len(mine) <= 3:
        value = "the one from {origin} to {destination}".format(**cities)
        fact = d.fact("reservation_forgotten", value, **cities)
        whole = "your trip from {origin} to {destination} (you have forgotten the code)".format(**cities)
        return Named(whole, fact, d.words(kind, "asks"), ())
    fact = d.fact("reservation", key)
    bank = content("phrases")[kind]
    asks = d.words(kind, "named", reservation=key) if draw > 1 - NAMED and "named" in bank else d.words(kind, "asks")
    return Named(f"your reservation {key}", fact, asks, (id_check(key, d.user["reservations"], fact["says"]),))


def is_ahead(trip: Record) -> bool:
    return all(leg["date"] > TODAY for leg in trip["flights"])


def is_cancelled(d: Draw, leg: Record) -> bool:
    return bool(d.tables["flights"][leg["flight_number"]]["dates"][leg["date"]]["status"] == "cancelled")


def trips(d: Draw) -> list[Record]:
    """The user's reservations that the goal may be about."""
    return [d.tables["reservations"][key] for key in d.user["reservations"] if d.may(key)]


def grounds(d: Draw, trip: Record) -> list[str]:
    """Reasons for which a trip ahead can be cancelled; "plans" where any reason will do."""
    if any(is_cancelled(d, leg) for leg in trip["flights"]):
        return ["airline"]
    if datetime.fromisoformat(trip["created_at"]) > NOW - timedelta(hours=24) or trip["cabin"] == "business":
        return ["plans", "health", "weather"]
    return ["health", "weather"] if trip["insurance"] == "yes" else []


def cancel_trip(d: Draw, kind: str = "cancel_trip") -> Goal | None:
    if kind == "cancel_flown":
        trip = d.pick(t for t in trips(d) if t["flights"][0]["date"] < TODAY < t["flights"][-1]["date"])
    elif kind == "cancel_denied":
        trip = d.pick(t for t in trips(d) if is_ahead(t) and not {"plans", "airline"} & set(grounds(d, t)))
    else:
        trip = d.pick(t for t in trips(d) if is_ahead(t) and grounds(d, t))
    if trip is None:
        return None
    bad = ["plans"] if trip["insurance"] == "yes" else ["plans", "health", "weather"]
    reason, named = d.rng.choice(grounds(d, trip) if kind == "cancel_trip" else bad), named_trip(d, trip, "cancel_trip")
    why = d.words("reasons", reason)
    return Goal(
        "cancel_trip",
        named.asks,
        d.words(kind, "wants", why=why, **named.slots),
        {"reservation": named.fact, "reason": {"value": why, "says": why}},
        named.checks,
        [call("cancel_reservation", reservation_id=trip["reservation_id"])] if kind == "cancel_trip" else [],
        touches=frozenset({trip["reservation_id"]}),
    )


def day_text(date: str) -> str:
    return f"May {int(date[-2:])}"


def day_check(date: str, says: str) -> Record:
    day = int(date[-2:])
    return {
        "right": [date, f"May {day}", f"May {day}th", f"{day} May", f"{day}th of May"],
        "wrong": ["2024-05-*", "May 1*", "May 2*", "May 3*"],
        "says": says,
    }


def on_sale(d: Draw, origin: str, destination: str, date: str) -> list[Record]:
    flights = d.tables["flights"].values()
    between = (f for f in flights if (f["origin"], f["destination"]) == (origin, destination))
    return [f for f in between if f["dates"][date]["status"] == "available"]


def wanted_flight(d: Draw, origin: str, destination: str, date: str, cabin: str, count: int) -> tuple[Record, str] | None:
    """One flight of a day, and the words for it, which fit no other."""
    found = on_sale(d, origin, destination, date)
    seated = [f for f in found if f["dates"][date]["available_seats"][cabin] >= count]
    if len(seated) < 2 or seated != found:
        return None
    words = d.rng.choice(("cheapest flight", "earliest flight", "latest flight"))
    prices = [f["dates"][date]["prices"][cabin] for f in found]
    if words == "cheapest flight":
        cheapest = [f for f, price in zip(found, prices, strict=True) if price == min(prices)]
        return (cheapest[0], words) if len(cheapest) == 1 else None
    pick = min if words == "earliest flight" else max
    return pick(found, key=lambda f: f["scheduled_departure_time_est"]), words


def flight_check(d: Draw, flight: Record, says: str) -> Record:
    others = [
        f["flight_number"]
        for f in d.tables["flights"].values()
        if (f["origin"], f["destination"]) == (flight["origin"], flight["destination"])
    ]
    return id_check(flight["flight_number"], others, says)


def cards(d: Draw, least: float) -> list[str]:
    """Credit and gift cards that cover a price."""
    methods = d.user["payment_methods"].items()
    return [key for key, method in methods if method["source"] != "certificate" and amount_of(method) >= least]


def flights(d: Draw, kind: str = "flights") -> Goal | None:
    """Another day for a one-way trip."""
    basic = kind == "flights_basic"
    trip = d.pick(t for t in trips(d) if is_ahead(t) and len(t["flights"]) == 1 and (t["cabin"] == CABINS[0]) is basic)
    if trip is None or is_cancelled(d, trip["flights"][0]):
        return None
    [leg], people = trip["flights"], len(trip["passengers"])
    date = f"2024-05-{d.rng.randint(16, 30)}"
    wanted = wanted_flight(d, trip["origin"], trip["destination"], date, trip["cabin"], people)
    if wanted is None or date == leg["date"]:
        return None
    flight, which = wanted
    price = (flight["dates"][date]["prices"][trip["cabin"]] - leg["price"]) * people
    method = d.pick(cards(d, price))
    if method is None:
        return None
    named, day, choice = named_trip(d, trip, "flights"), d.fact("date", day_text(date)), d.fact("flight", which)
    how = d.fact("method", method_name(d.user["payment_methods"][method]))
    legs = [{"flight_number": flight["flight_number"], "date": date}]
    arguments = {"reservation_id": trip["reservation_id"], "cabin": trip["cabin"], "flights": legs, "payment_id": method}
    return Goal(
        "flights",
        named.asks,
        d.words(kind, "wants", date=day["value"], flight=which, how=f"through your {how['value']}", **named.slots),
        {"reservation": named.fact, "date": day, "flight": choice, "method": how},
        [
            *named.checks,
            flight_check(d, flight, choice["says"]),
            day_check(date, day["says"]),
            method_check(d.user, method, how["says"]),
        ],
        [] if basic else [call("update_reservation_flights", **arguments)],
        touches=frozenset({trip["reservation_id"]}),
    )


def cabin(d: Draw) -> Goal | None:
    """A better cabin on the same flights."""
    trip = d.pick(t for t in trips(d) if is_ahead(t) and t["cabin"] != CABINS[-1])
    if trip is None:
        return None
    better, people = d.rng.choice(CABINS[CABINS.index(trip["cabin"]) + 1 :]), len(trip["passengers"])
    days = [d.tables["flights"][leg["flight_number"]]["dates"][leg["date"]] for leg in trip["flights"]]
    if any(day["status"] != "available" or day["available_seats"][better] < people for day in days):
        return None
    price = sum(day["prices"][better] - leg["price"] for day, leg in zip(days, trip["flights"], strict=True)) * people
    method = d.pick(cards(d, price))
    if method is None:
        return None
    named, wish = named_trip(d, trip, "cabin"), d.fact("cabin", better.replace("_", " "))
    how = d.fact("method", method_name(d.user["payment_methods"][method]))
    legs = [{"flight_number": leg["flight_number"], "date": leg["date"]} for leg in trip["flights"]]
    arguments = {"reservation_id": trip["reservation_id"], "cabin": better, "flights": legs, "payment_id": method}
    check = {"right": [wish["value"]], "wrong": ["business" if better == "economy" else "economy"], "says": wish["says"]}
    return Goal(
        "cabin",
        named.asks,
        d.words("cabin", "wants", cabin=wish["value"], how=f"through your {how['value']}", **named.slots),
        {"reservation": named.fact, "cabin": wish, "method": how},
        [*named.checks, check, method_check(d.user, method, how["says"])],
        [call("update_reservation_flights", **arguments)],
        touches=frozenset({trip["reservation_id"]}),
    )


def bags(d: Draw) -> Goal | None:
    """One or two more checked bags."""
    trip = d.pick(t for t in trips(d) if is_ahead(t))
    if trip is None:
        return None
    more = d.rng.randint(1, 2)
    total = trip["total_baggages"] + more
    nonfree = max(0, total - FREE_BAGS[d.user["membership"]][trip["cabin"]] * len(trip["passengers"]))
    price = BAG * max(0, nonfree - trip["nonfree_baggages"])
    method = d.pick(cards(d, price))
    if method is None:
        return None
    named = named_trip(d, trip, "bags")
    wish = d.fact("bags", f"{NUMBER_WORDS[more]} more checked bag{'s' * (more > 1)}")
    how = d.fact("method", method_name(d.user["payment_methods"][method]))
    arguments = {
        "reservation_id": trip["reservation_id"],
        "total_baggages": total,
        "nonfree_baggages": nonfree,
        "payment_id": method,
    }
    return Goal(
        "bags",
        named.asks,
        d.words("bags", "wants", bags=wish["value"], how=f"through your {how['value']}", **named.slots),
        {"reservation": named.fact, "bags": wish, "method": how},
        [*named.checks, method_check(d.user, method, how["says"])],
        [call("update_reservation_baggages", **arguments)],
        touches=frozenset({trip["reservation_id"]}),
    )


def stranger(d: Draw) -> Record:
    bank = content("people")
    return {"first_name": d.rng.choice(bank["first"]), "last_name": d.rng.choice(bank["last"]), "dob": birthday(d.rng)}


def passenger(d: Draw) -> Goal | None:
    """Somebody else in place of a fellow passenger."""
    trip = d.pick(t for t in trips(d) if is_ahead(t) and len(t["passengers"]) > 1)
    if trip is None:
        return None
    number = d.rng.randrange(1, len(trip["passengers"]))
    new, old = stranger(d), trip["passengers"][number]
    names = {"old": full_name(old), "new": full_name(new), "dob": new["dob"]}
    if names["new"] in map(full_name, trip["passengers"]):
        return None
    named = named_trip(d, trip, "passenger")
    fact = {"value": "{new}, born {dob}, for {old}".format(**names), "says": d.words("passenger", "says", **names)}
    people = [*trip["passengers"][:number], new, *trip["passengers"][number + 1 :]]
    return Goal(
        "passenger",
        named.asks,
        d.words("passenger", "wants", **names, **named.slots),
        {"reservation": named.fact, "passengers": fact},
        [*named.checks, {"right": [names["new"]], "wrong": [names["old"]], "says": fact["says"]}],
        [call("update_reservation_passengers", reservation_id=trip["reservation_id"], passengers=people)],
        touches=frozenset({trip["reservation_id"]}),
    )


def book(d: Draw) -> Goal | None:
    """A direct one-way flight for one or two people."""
    some = d.rng.choice(list(d.tables["flights"].values()))
    origin, destination, date = some["origin"], some["destination"], f"2024-05-{d.rng.randint(17, 30)}"
    companions = [d.rng.choice(d.user["saved_passengers"])] if d.user["saved_passengers"] and d.rng.random() < 0.4 else []
    people = [{**d.user["name"], "dob": d.user["dob"]}, *companions]
    level = d.rng.choice(CABINS)
    wanted = wanted_flight(d, origin, destination, date, level, len(people))
    if wanted is None:
        return None
    flight, which = wanted
    number, insured = d.rng.randint(0, 3), d.rng.random() < 0.4
    nonfree = max(0, number - FREE_BAGS[d.user["membership"]][level] * len(people))
    price = (flight["dates"][date]["prices"][level] + INSURANCE * insured) * len(people) + BAG * nonfree
    method = d.pick(cards(d, price))
    if method is None:
        return None
    cities = {"origin": CITIES[origin], "destination": CITIES[destination]}
    if companions:
        other = {"name": full_name(companions[0]), "dob": companions[0]["dob"]}
        who = d.fact("people_two", "me and {name}, born {dob}".format(**other), **other)
        people_text = "yourself and {name} (born {dob})".format(**other)
    else:
        who, people_text = d.fact("people", "just me"), "yourself alone"
    luggage = d.fact("bags", f"{NUMBER_WORDS[number]} checked bag{'s' * (number != 1)}")
    insurance = d.fact("insurance", "with insurance" if insured else "no insurance")
    how = d.fact("method", method_name(d.user["payment_methods"][method]))
    wish, day, choice = d.fact("cabin", level.replace("_", " ")), d.fact("date", day_text(date)), d.fact("flight", which)
    facts = {
        "route": d.fact("route", "{origin} to {destination}".format(**cities), **cities),
        "date": day,
        "trip": d.fact("trip", "one way"),
        "cabin": wish,
        "flight": choice,
        "passengers": who,
        "bags": luggage,
        "insurance": insurance,
        "method": how,
    }
    wants = d.words(
        "book",
        "wants",
        **cities,
        date=day["value"],
        flight=which,
        cabin=wish["value"],
        people=people_text,
        bags=luggage["value"],
        insurance=insurance["value"],
        how=f"through your {how['value']}",
    )
    arguments = {
        "user_id": d.user_id,
        "origin": origin,
        "destination": destination,
        "flight_type": "one_way",
        "cabin": level,
        "flights": [{"flight_number": flight["flight_number"], "date": date}],
        "passengers": people,
        "payment_methods": [{"payment_id": method, "amount": price}],
        "total_baggages": number,
        "nonfree_baggages": nonfree,
        "insurance": "yes" if insured else "no",
    }
    checks = [flight_check(d, flight, choice["says"]), day_check(date, day["says"]), method_check(d.user, method, how["says"])]
    touches = frozenset({f"{origin}-{destination}-{date}"})
    return Goal("book", d.words("book", "asks"), wants, facts, checks, [call("book_reservation", **arguments)], touches=touches)


def amount_book(d: Draw) -> Goal | None:
    """Of the booking before it."""
    [made] = d.before[-1].calls
    return amount(d, "amount_book", made["arguments"]["payment_methods"][0]["amount"])


def compensation(d: Draw, kind: str = "compensation") -> Goal | None:
    """For a flight of a coming trip that the airline has cancelled."""
    trip = d.pick(t for t in trips(d) if is_ahead(t) and any(is_cancelled(d, leg) for leg in t["flights"]))
    if trip is None:
        return None
    entitled = d.user["membership"] != "regular" or trip["insurance"] == "yes" or trip["cabin"] == "business"
    if entitled is (kind == "no_compensation"):
        return None
    named = named_trip(d, trip, "compensation")
    sent = call("send_certificate", user_id=d.user_id, amount=GOODWILL * len(trip["passengers"]))
    why = d.words("reasons", "airline")
    return Goal(
        "compensation",
        named.asks,
        d.words(kind, "wants", **named.slots),
        {"reservation": named.fact, "reason": {"value": why, "says": why}},
        named.checks,
        [sent] if entitled else [],
        touches=frozenset({trip["reservation_id"]}),
    )


def forbidden(d: Draw, kind: str, act: str, trip: Record, topic: str, fact: Fact, **slots: str) -> Goal:
    """A goal about a reservation that the policy rules out."""
    named = named_trip(d, trip, kind)
    facts = {"reservation": named.fact, topic: fact}
    wants = d.words(kind, "wants", **slots, **named.slots)
    return Goal(act, named.asks, wants, facts, named.checks, touches=frozenset({trip["reservation_id"]}))


def destination(d: Draw) -> Goal | None:
    trip = d.pick(t for t in trips(d) if is_ahead(t) and t["cabin"] != CABINS[0])
    if trip is None:
        return None
    codes = {flight["origin"] for flight in d.tables["flights"].values()} - {trip["origin"], trip["destination"]}
    cities = {"origin": CITIES[trip["origin"]], "city": CITIES[d.rng.choice(sorted(codes))]}
    fact = {"value": "{origin} to {city}".format(**cities), "says": d.words("destination", "says", **cities)}
    return forbidden(d, "destination", "flights", trip, "route", fact, **cities)


def fewer_bags(d: Draw) -> Goal | None:
    trip = d.pick(t for t in trips(d) if is_ahead(t) and t["total_baggages"] > 0)
    return trip and forbidden(d, "fewer_bags", "bags", trip, "bags", d.fact("bags", "no checked bags any more"))


def insurance(d: Draw) -> Goal | None:
    trip = d.pick(t for t in trips(d) if is_ahead(t) and t["insurance"] == "no")
    return trip and forbidden(d, "insurance", "insurance", trip, "insurance", d.fact("insurance", "with insurance"))


def fewer_people(d: Draw) -> Goal | None:
    trip = d.pick(t for t in trips(d) if is_ahead(t) and len(t["passengers"]) > 1)
    if trip is None:
        return None
    old = full_name(d.rng.choice(trip["passengers"][1:]))
    fact = {"value": f"{old} off", "says": d.words("fewer_people", "says", old=old)}
    return forbidden(d, "fewer_people", "passenger", trip, "passengers", fact, old=old)


MAKERS: Mapping[str, Maker] = {
    "cancel_trip": cancel_trip,
    "flights": flights,
    "cabin": cabin,
    "bags": bags,
    "passenger": passenger,
    "book": book,
    "amount_book": amount_book,
    "compensation": compensation,
    "cancel_denied": partial(cancel_trip, kind="cancel_denied"),
    "cancel_flown": partial(cancel_trip, kind="cancel_flown"),
    "flights_basic": partial(flights, kind="flights_basic"),
    "destination": destination,
    "fewer_bags": fewer_bags,
    "insurance": insurance,
    "fewer_people": fewer_people,
    "no_compensation": partial(compensation, kind="no_compensation"),
}
"""Kind of goal -> maker. What stands after `compensation` is forbidden."""
