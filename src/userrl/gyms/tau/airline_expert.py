"""The expert at the service desk of the airline."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from userrl.core import Action
from userrl.gyms.tau.listening import mentions
from userrl.gyms.tau.notes import Notes, Record, intent_of, lookup, method_in, methods_of, money, people_in, say, spoken, use
from userrl.gyms.tau.world import BAG, CABINS, FREE_BAGS, GOODWILL, INSURANCE, NOW, TODAY

INTENTS: Mapping[str, Sequence[str]] = {
    "compensation": ["compensat*"],
    "amount": ["how much", "what is the total"],
    "destination": ["another city", "destination", "where my trip goes"],
    "passenger": ["passenger*", "somebody else will travel"],
    "bags": ["bag*", "luggage", "suitcase*"],
    "insurance": ["insurance"],
    "cabin": ["upgrade*", "cabin"],
    "cancel": ["cancel*"],
    "flights": ["another day", "another date", "move", "change my flight", "the flight of", "change the flight", "different day"],
    "book": ["book*", "a flight"],
}
"""Wish -> phrases that bring it up; the first that fits counts."""

USER_ID = re.compile(r"\b[a-z]+_[a-z]+_\d{4}\b")
RESERVATION = re.compile(r"\b[A-Z]{3}[0-9][A-Z0-9]{2}\b")
ROUTE = re.compile(r"\b(?!From\b)([A-Z][a-z]+(?: [A-Z][a-z]+)?) to ([A-Z][a-z]+(?: [A-Z][a-z]+)?)\b")
NUMBERS = {"no": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}


def act(n: Notes) -> Action:
    if not n.user:
        return identify(n)
    handlers = {
        "compensation": compensation,
        "amount": amount,
        "destination": destination,
        "passenger": passenger,
        "bags": bags,
        "insurance": insurance,
        "cabin": cabin,
        "cancel": cancel,
        "flights": flights,
        "book": book,
    }
    handler = handlers.get(intent_of(n.wish[0], INTENTS) or intent_of(n.text, INTENTS))
    if handler:
        return n.settled() or handler(n)
    return n.ask("What can I do for you?", "How can I help you?")


def identify(n: Notes) -> Action:
    if ids := USER_ID.findall("\n".join(n.told)):
        return use("get_user_details", user_id=ids[-1])
    return n.ask("May I have your user id?", "I am happy to help. What is your user id?", "Could you tell me your user id first?")


# --- what a wish is about --------------------------------------------------------------------------------------


ASKS = ("Please tell me", "To go on, please let me know", "For that I need to know")
QUESTIONS = {
    "reservation": "which reservation it is (the code)",
    "reason": "the reason for it",
    "date": "the new date",
    "flight": "which flight of that day you prefer",
    "method": "which payment method to use",
    "cabin": "which cabin you would like",
    "bags": "how many bags",
    "passengers": "which passenger it is and who will travel instead, with the date of birth",
}


def question(n: Notes, *wanted: str) -> Action:
    """One question for several things."""
    texts = [QUESTIONS[name] for name in wanted]
    joined = texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])}, and {texts[-1]}"
    return say(f"{n.rng.choice(ASKS)} {joined}.{methods_of(n.user) if 'method' in wanted else ''}")


def reservation_of(n: Notes, *also: str) -> Record | Action:
    """The reservation that the wish is about, or the next move to find it. `also`: what else is asked for in one go."""
    if ids := RESERVATION.findall(n.text):
        return n.records.get(ids[-1]) or use("get_reservation_details", reservation_id=ids[-1])
    if route := ROUTE.search(n.text):
        cities = cities_of(n)
        if isinstance(cities, Action):
            return cities
        for key in n.user["reservations"]:
            if key not in n.records:
                return use("get_reservation_details", reservation_id=key)
            if (cities[n.records[key]["origin"]], cities[n.records[key]["destination"]]) == route.groups():
                return n.records[key]
    if "same reservation" in n.text and n.about in n.records:
        return n.records[n.about]
    return question(n, "reservation", *also)


def cities_of(n: Notes) -> Mapping[str, str] | Action:
    """Airport code -> city."""
    found: Mapping[str, str] | None = n.lists.get(lookup("list_all_airports"))
    return found or use("list_all_airports")


def search(n: Notes, origin: str, destination: str, date: str) -> list[Record] | Action:
    arguments = {"origin": origin, "destination": destination, "date": date}
    found: list[Record] | None = n.lists.get(lookup("search_direct_flight", **arguments))
    return use("search_direct_flight", **arguments) if found is None else found


def date_in(text: str) -> str:
    """The last day of May that a text names; "" for none."""
    found = re.findall(r"\bMay (\d{1,2})\b|\b2024-05-(\d{2})\b", text)
    return f"2024-05-{int(found[-1][0] or found[-1][1]):02d}" if found else ""


def cabin_in(text: str) -> str:
    found = re.findall(r"\b(basic economy|economy|business)\b", text.casefold())
    return found[-1].replace(" ", "_") if found else ""


def number_in(text: str) -> int | None:
    """The number of bags that a text names."""
    found = re.findall(r"\b(no|one|two|three|four|five|\d)\b(?: more)?(?: checked)? (?:bags?|suitcases?)", text.casefold())
    return None if not found else NUMBERS.get(found[-1], 0) if not found[-1].isdigit() else int(found[-1])


def chosen(found: Sequence[Record], text: str, level: str, count: int) -> Record | None:
    """The flight that the user wants, of those with enough seats."""
    seated = [flight for flight in found if flight["available_seats"][level] >= count]
    for flight in seated:
        if flight["flight_number"] in text:
            return flight
    if not seated or not mentions(text, ["cheapest", "earliest", "latest", "first", "last"]):
        return None
    if mentions(text, ["cheapest"]):
        return min(seated, key=lambda f: f["prices"][level])
    pick = max if mentions(text, ["latest", "last"]) else min
    return pick(seated, key=lambda f: f["scheduled_departure_time_est"])


def listed(found: Sequence[Record], level: str) -> str:
    return "; ".join(
        f"{f['flight_number']} at {f['scheduled_departure_time_est'][:5]} for {f['prices'][level]} dollars" for f in found
    )


def method_of(n: Notes) -> str:
    return method_in(n.text, n.user["payment_methods"])


def is_mine(n: Notes, trip: Record) -> bool:
    return trip["reservation_id"] in n.user["reservations"]


NOT_MINE = "This reservation does not belong to your account, and I may only work on yours."


# --- wishes ------------------------------------------------------------------------------------------------------


def cancel(n: Notes) -> Action:
    trip = reservation_of(n, "reason")
    if isinstance(trip, Action):
        return trip
    if not is_mine(n, trip):
        return n.refuse(NOT_MINE)
    if trip["flights"][0]["date"] < TODAY:
        return use(
            "transfer_to_human_agents", summary=f"Wants to cancel {trip['reservation_id']}, of which a part has been flown."
        )
    reason = reason_in(n)
    if not reason:
        return question(n, "reason")
    recent = datetime.fromisoformat(trip["created_at"]) > NOW - timedelta(hours=24)
    allowed = recent or trip["cabin"] == "business" or (trip["insurance"] == "yes" and reason == "insured")
    if not allowed:
        dropped = cancelled_legs(n, trip) if reason == "airline" else []
        if isinstance(dropped, Action):
            return dropped
        if not dropped:
            why = "This can only be cancelled within 24 hours of the booking, or insured for health or weather, or in business."
            return n.refuse(why, use("cancel_reservation", reservation_id=trip["reservation_id"]))
    return n.carry_out(
        use("cancel_reservation", reservation_id=trip["reservation_id"]),
        f"I will cancel the whole reservation {trip['reservation_id']}; the money goes back the way it was paid.",
    )


def reason_in(n: Notes) -> str:
    """ "airline", "insured" (health or weather), "other", or "" where none was told."""
    said = n.text
    if mentions(said, ["airline cancel*", "cancelled by you", "you cancelled", "canceled by you", "was cancelled"]):
        return "airline"
    if mentions(said, ["ill", "sick", "doctor", "health", "broke", "weather", "storm*"]):
        return "insured"
    return "other" if mentions(said, ["plan*", "changed my mind", "something else", "because"]) else ""


def cancelled_legs(n: Notes, trip: Record) -> list[Record] | Action:
    """The flights of a coming trip that are not listed any more."""
    dropped = []
    for leg in trip["flights"]:
        found = search(n, leg["origin"], leg["destination"], leg["date"])
        if isinstance(found, Action):
            return found
        if leg["flight_number"] not in {flight["flight_number"] for flight in found}:
            dropped.append(leg)
    return dropped


def compensation(n: Notes) -> Action:
    trip = reservation_of(n)
    if isinstance(trip, Action):
        return trip
    if not is_mine(n, trip):
        return n.refuse(NOT_MINE)
    if n.user["membership"] == "regular" and trip["insurance"] != "yes" and trip["cabin"] != "business":
        sent = use("send_certificate", user_id=user_id_of(n), amount=GOODWILL)
        return n.refuse("A certificate goes only to silver and gold members, insured reservations, or business.", sent)
    dropped = cancelled_legs(n, trip)
    if isinstance(dropped, Action):
        return dropped
    if not dropped:
        return n.refuse("The flights of this reservation are not cancelled.")
    value = GOODWILL * len(trip["passengers"])
    return n.carry_out(
        use("send_certificate", user_id=user_id_of(n), amount=value),
        f"As a compensation I will put a certificate over {value} dollars into your account.",
    )


def user_id_of(n: Notes) -> str:
    found: list[str] = USER_ID.findall("\n".join(n.told))
    return found[-1]


def flights(n: Notes) -> Action:
    wanted = [*([] if date_in(n.text) else ["date"]), "flight", "method"]
    trip = reservation_of(n, *wanted)
    if isinstance(trip, Action):
        return trip
    if not is_mine(n, trip):
        return n.refuse(NOT_MINE)
    if trip["cabin"] == CABINS[0]:
        return n.refuse("Flights in basic economy cannot be changed.")
    date, count = date_in(n.text), len(trip["passengers"])
    if not date:
        return question(n, *wanted)
    found = search(n, trip["origin"], trip["destination"], date)
    if isinstance(found, Action):
        return found
    flight, method = chosen(found, n.text, trip["cabin"], count), method_of(n)
    if flight is None or not method:
        lacking = [*([] if flight else ["flight"]), *([] if method else ["method"])]
        return question(n, *lacking)
    price = (flight["prices"][trip["cabin"]] - trip["flights"][0]["price"]) * count
    legs = [{"flight_number": flight["flight_number"], "date": date}]
    return n.carry_out(
        use(
            "update_reservation_flights",
            reservation_id=trip["reservation_id"],
            cabin=trip["cabin"],
            flights=legs,
            payment_id=method,
        ),
        f"I will change reservation {trip['reservation_id']} to flight {flight['flight_number']} on May {int(date[-2:])}; "
        f"{paid(n, price, method)}.",
    )


def paid(n: Notes, price: int, method: str) -> str:
    where = spoken(n.user["payment_methods"][method])
    return f"{money(abs(price))} {'are charged' if price > 0 else 'go back'} to your {where}"


def cabin(n: Notes) -> Action:
    trip = reservation_of(n, "cabin", "method")
    if isinstance(trip, Action):
        return trip
    if not is_mine(n, trip):
        return n.refuse(NOT_MINE)
    said = n.text
    level, method, count = cabin_in(said), method_of(n), len(trip["passengers"])
    if not level or not method:
        return question(n, *([] if level else ["cabin"]), *([] if method else ["method"]))
    price = 0
    for leg in trip["flights"]:
        found = search(n, leg["origin"], leg["destination"], leg["date"])
        if isinstance(found, Action):
            return found
        flight = next((f for f in found if f["flight_number"] == leg["flight_number"]), None)
        if flight is None or flight["available_seats"][level] < count:
            return n.refuse("There are not enough seats in that cabin.")
        price += (flight["prices"][level] - leg["price"]) * count
    legs = [{"flight_number": leg["flight_number"], "date": leg["date"]} for leg in trip["flights"]]
    return n.carry_out(
        use("update_reservation_flights", reservation_id=trip["reservation_id"], cabin=level, flights=legs, payment_id=method),
        f"I will upgrade reservation {trip['reservation_id']} to {level.replace('_', ' ')}; {paid(n, price, method)}.",
    )


def bags(n: Notes) -> Action:
    if mentions(n.text, ["off a reservation", "remove*", "less luggage", "no checked bags any more"]):
        return n.refuse("Checked bags can be added, but not taken off.")
    number, method = number_in(n.text), method_of(n)
    trip = reservation_of(n, *([] if number else ["bags"]), *([] if method else ["method"]))
    if isinstance(trip, Action):
        return trip
    if not is_mine(n, trip):
        return n.refuse(NOT_MINE)
    if not number or not method:
        return question(n, *([] if number else ["bags"]), *([] if method else ["method"]))
    total = trip["total_baggages"] + number
    nonfree = max(0, total - FREE_BAGS[n.user["membership"]][trip["cabin"]] * len(trip["passengers"]))
    price = BAG * max(0, nonfree - trip["nonfree_baggages"])
    arguments = {"total_baggages": total, "nonfree_baggages": nonfree, "payment_id": method}
    cost = paid(n, price, method) if price else "which is free"
    return n.carry_out(
        use("update_reservation_baggages", reservation_id=trip["reservation_id"], **arguments),
        f"I will add {number} checked bag{'s' * (number > 1)} to reservation {trip['reservation_id']}, {total} in all; {cost}.",
    )


def passenger(n: Notes) -> Action:
    if mentions(n.text, ["taken off", "remove a passenger", "take off"]):
        return n.refuse("The number of passengers has to stay as it is.")
    trip = reservation_of(n, "passengers")
    if isinstance(trip, Action):
        return trip
    if not is_mine(n, trip):
        return n.refuse(NOT_MINE)
    names, born = people_in(ROUTE.sub("", n.text)), re.findall(r"\b\d{4}-\d{2}-\d{2}\b", n.text)
    on_board = [f"{p['first_name']} {p['last_name']}" for p in trip["passengers"]]
    old = next((name for name in names if name in on_board), None)
    new = next((name for name in reversed(names) if name not in on_board), None)
    if not old or not new or not born:
        return question(n, "passengers")
    first, last = new.split()
    person = {"first_name": first, "last_name": last, "dob": born[-1]}
    people = [person if name == old else p for name, p in zip(on_board, trip["passengers"], strict=True)]
    return n.carry_out(
        use("update_reservation_passengers", reservation_id=trip["reservation_id"], passengers=people),
        f"On reservation {trip['reservation_id']} I will put the passenger {new}, born {born[-1]}, in place of {old}.",
    )


def book(n: Notes) -> Action:
    said = n.text
    route, date, level = ROUTE.search(said), date_in(said), cabin_in(said)
    if not route or not date or not level:
        return n.ask(
            "From where to where would you like to fly, on which day, one way or round trip, and in which cabin?",
            "Please tell me the origin and the destination, the date, whether it is one way, and the cabin.",
        )
    cities = cities_of(n)
    if isinstance(cities, Action):
        return cities
    codes = {city: code for code, city in cities.items()}
    origin, destination = (codes.get(city, city) for city in route.groups())
    found = search(n, origin, destination, date)
    if isinstance(found, Action):
        return found
    people = travelers(n, said)
    number, method = number_in(said), method_of(n)
    flight = chosen(found, said, level, len(people or [0]))
    insured = (
        None if not re.search(r"\binsurance\b", said) else "no" if re.search(r"\bno\b[^.]* insurance", said.casefold()) else "yes"
    )
    if not people or number is None or not method or flight is None or insured is None:
        return say(
            f"There are these flights: {listed(found, level)}. Which flight do you prefer, who are the passengers (with dates "
            "of birth), how many bags will you check in, do you want insurance, and which payment method should I use?"
        )
    nonfree = max(0, number - FREE_BAGS[n.user["membership"]][level] * len(people))
    price = (flight["prices"][level] + INSURANCE * (insured == "yes")) * len(people) + BAG * nonfree
    arguments = {
        "user_id": user_id_of(n),
        "origin": origin,
        "destination": destination,
        "flight_type": "one_way",
        "cabin": level,
        "flights": [{"flight_number": flight["flight_number"], "date": date}],
        "passengers": people,
        "payment_methods": [{"payment_id": method, "amount": price}],
        "total_baggages": number,
        "nonfree_baggages": nonfree,
        "insurance": insured,
    }
    return n.carry_out(
        use("book_reservation", **arguments),
        f"I will book flight {flight['flight_number']} from {route[1]} to {route[2]} on May {int(date[-2:])} in "
        f"{level.replace('_', ' ')} for {len(people)}, with {number} bags and {'' if insured == 'yes' else 'no '}insurance: "
        f"{money(price)} by your {spoken(n.user['payment_methods'][method])}.",
    )


def travelers(n: Notes, said: str) -> list[Record]:
    """Who will fly; empty where the user has not told."""
    myself = {**n.user["name"], "dob": n.user["dob"]}
    found = re.findall(r"([A-Z][a-z]+) ([A-Z][a-z]+),? (?:who was )?born (\d{4}-\d{2}-\d{2})", said)
    if found:
        return [myself, *({"first_name": first, "last_name": last, "dob": dob} for first, last, dob in found)]
    return [myself] if mentions(said, ["just me", "only i", "only me", "i travel alone", "alone", "myself"]) else []


def amount(n: Notes) -> Action:
    """Of what was booked last."""
    if n.last is None or not isinstance(n.last[2], dict):
        return n.refuse("I do not know which sum you mean.")
    return n.close(f"The total price is {money(sum(payment['amount'] for payment in n.last[2]['payment_history']))}.")


def destination(n: Notes) -> Action:
    return n.refuse("A reservation stays between the same cities.")


def insurance(n: Notes) -> Action:
    return n.refuse("The insurance can only be taken when booking.")
