"""The 14 tools of an airline: look up flights and reservations; book, change and cancel.

Orders of checks, arithmetic and oddities are those of tau-bench, since hashes and texts depend on them. Odd are: seats
are never taken; a change of flights leaves the reservation's cabin as it is; the second flight of a connection is
shown as it is on the first one's date; a fourth booking takes the place of the third; an unknown reservation is
reported as an unknown user when read; a cancellation changes no balance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from typing import Any

from typing_extensions import TypedDict

from userrl.gyms.tau.database import Overlay, Record, copied
from userrl.gyms.tau.tools.common import Refused, Result, calculate, found, think, tools_of, transfer_to_human_agents

NEW_RESERVATIONS = ("HATHAT", "HATHAU", "HATHAV")
"""Ids of the reservations that are booked, in this order; the last is used again."""
NEW_CERTIFICATES = ("certificate_3221322", "certificate_3221323", "certificate_3221324")
"""Ids of the certificates that are sent to a user; there is no fourth."""
NOW = "2024-05-15T15:00:00"
"""When everything happens."""
INSURANCE_PRICE = 30
"""For one passenger, in dollars."""
BAGGAGE_PRICE = 50
"""For one piece that is not free, in dollars."""
AIRPORTS: Mapping[str, str] = {
    "SFO": "San Francisco",
    "JFK": "New York",
    "LAX": "Los Angeles",
    "ORD": "Chicago",
    "DFW": "Dallas",
    "DEN": "Denver",
    "SEA": "Seattle",
    "ATL": "Atlanta",
    "MIA": "Miami",
    "BOS": "Boston",
    "PHX": "Phoenix",
    "IAH": "Houston",
    "LAS": "Las Vegas",
    "MCO": "Orlando",
    "EWR": "Newark",
    "CLT": "Charlotte",
    "MSP": "Minneapolis",
    "DTW": "Detroit",
    "PHL": "Philadelphia",
    "LGA": "LaGuardia",
}
"""Code -> city."""


class Leg(TypedDict):
    """A flight on a day."""

    flight_number: str
    date: str


class Payment(TypedDict):
    """What is paid by one method, in dollars."""

    payment_id: str
    amount: int | float


# --- reading -------------------------------------------------------------------------------------------------


def get_user_details(db: Overlay, user_id: str) -> Result:
    return Result("ok", found(db, "users", user_id, "user_not_found"))


def get_reservation_details(db: Overlay, reservation_id: str) -> Result:
    return Result("ok", found(db, "reservations", reservation_id, "user_not_found"))


def list_all_airports(db: Overlay) -> Result:
    return Result("ok", AIRPORTS)


def search_direct_flight(db: Overlay, origin: str, destination: str, date: str) -> Result:
    """The flights between two airports that can be booked on a day."""
    flights = (flight for _, flight in db.rows("flights"))
    between = (flight for flight in flights if flight["origin"] == origin and flight["destination"] == destination)
    return Result("ok", [_on(flight, date) for flight in between if _is_available(flight, date)])


def search_onestop_flight(db: Overlay, origin: str, destination: str, date: str) -> Result:
    """The pairs of flights, one after the other, that can be booked from a day on."""
    connections = []
    for first, second in _connections(db, origin, destination):
        arrival = first["scheduled_arrival_time_est"]
        next_date = _next_day(date) if "+1" in arrival else date
        if arrival > second["scheduled_departure_time_est"]:
            continue
        if _is_available(first, date) and _is_available(second, next_date):
            if date not in second["dates"]:
                raise Refused("py_exception", problem=f"the second flight does not go on {date}")
            connections.append([{**_on(first, date), "date": date}, {**_on(second, date), "date": next_date}])
    return Result("ok", connections)


# --- reservations --------------------------------------------------------------------------------------------


def book_reservation(
    db: Overlay,
    user_id: str,
    origin: str,
    destination: str,
    flight_type: str,
    cabin: str,
    flights: list[Leg],
    passengers: list[dict[str, Any]],
    payment_methods: list[Payment],
    total_baggages: int,
    nonfree_baggages: int,
    insurance: str,
) -> Result:
    """Book flights and pay. A certificate is used up, however little of it was asked for.

    The one call that can change something and fail: with the same certificate twice among the payments, what comes
    before the second one has been taken.
    """
    user = found(db, "users", user_id, "user_not_found")
    reservation_id = next((key for key in NEW_RESERVATIONS if db.get("reservations", key) is None), NEW_RESERVATIONS[-1])
    booked: list[Record] = copied(flights)
    price = 0
    for flight in booked:
        _price_leg(db, flight, cabin, passengers)
        price += flight["price"] * len(passengers)
    if insurance == "yes":
        price += INSURANCE_PRICE * len(passengers)
    price += BAGGAGE_PRICE * nonfree_baggages
    for payment in payment_methods:
        method_id, amount = payment["payment_id"], payment["amount"]
        if method_id not in user["payment_methods"]:
            raise Refused("payment_id_not_found", payment_id=method_id)
        method = user["payment_methods"][method_id]
        if method["source"] in ("gift_card", "certificate") and method["amount"] < amount:
            raise Refused("payment_balance_short", payment_id=method_id)
    paid = sum(payment["amount"] for payment in payment_methods)
    if paid != price:
        raise Refused("payment_sum_mismatch", total_price=price, paid=paid)

    user = db.edit("users", user_id)
    for payment in payment_methods:
        method_id = payment["payment_id"]
        if method_id not in user["payment_methods"]:
            raise Refused("py_exception", keep=True, problem=f"{method_id} was used up by the payment before")
        method = user["payment_methods"][method_id]
        if method["source"] == "gift_card":
            method["amount"] -= payment["amount"]
        elif method["source"] == "certificate":
            del user["payment_methods"][method_id]
    reservation = {
        "reservation_id": reservation_id,
        "user_id": user_id,
        "origin": origin,
        "destination": destination,
        "flight_type": flight_type,
        "cabin": cabin,
        "flights": booked,
        "passengers": copied(passengers),
        "payment_history": copied(payment_methods),
        "created_at": NOW,
        "total_baggages": total_baggages,
        "nonfree_baggages": nonfree_baggages,
        "insurance": insurance,
    }
    db.put("reservations", reservation_id, reservation)
    user["reservations"].append(reservation_id)
    return Result("ok", reservation)


def cancel_reservation(db: Overlay, reservation_id: str) -> Result:
    """Cancel, and note a refund for each entry of the payment history."""
    found(db, "reservations", reservation_id, "reservation_not_found")
    reservation = db.edit("reservations", reservation_id)
    history = reservation["payment_history"]
    history += [{"payment_id": payment["payment_id"], "amount": -payment["amount"]} for payment in history]
    reservation["status"] = "cancelled"
    return Result("ok", reservation)


def update_reservation_baggages(
    db: Overlay, reservation_id: str, total_baggages: int, nonfree_baggages: int, payment_id: str
) -> Result:
    """Set the numbers of bags, and pay for those that are new and not free."""
    reservation = found(db, "reservations", reservation_id, "reservation_not_found")
    price = BAGGAGE_PRICE * max(0, nonfree_baggages - reservation["nonfree_baggages"])
    _check_payment(db, reservation, payment_id, price)
    reservation = db.edit("reservations", reservation_id)
    reservation["total_baggages"] = total_baggages
    reservation["nonfree_baggages"] = nonfree_baggages
    _pay(db, reservation, payment_id, price)
    return Result("ok", reservation)


def update_reservation_flights(db: Overlay, reservation_id: str, cabin: str, flights: list[Leg], payment_id: str) -> Result:
    """Replace the flights and settle the difference. A flight that stays in its cabin keeps its price."""
    reservation = found(db, "reservations", reservation_id, "reservation_not_found")
    before, passengers = reservation["flights"], reservation["passengers"]
    after: list[Record] = copied(flights)
    price = 0
    for flight in after:
        kept = [old for old in before if all(old[name] == flight[name] for name in ("flight_number", "date"))]
        if kept and cabin == reservation["cabin"]:
            flight.update({name: kept[0][name] for name in ("price", "origin", "destination")})
        else:
            _price_leg(db, flight, cabin, passengers)
        price += flight["price"] * len(passengers)
    price -= sum(flight["price"] for flight in before) * len(passengers)
    _check_payment(db, reservation, payment_id, price)
    reservation = db.edit("reservations", reservation_id)
    reservation["flights"] = after
    _pay(db, reservation, payment_id, price)
    return Result("ok", reservation)


def update_reservation_passengers(db: Overlay, reservation_id: str, passengers: list[dict[str, Any]]) -> Result:
    reservation = found(db, "reservations", reservation_id, "reservation_not_found")
    if len(passengers) != len(reservation["passengers"]):
        raise Refused("passenger_count_mismatch")
    reservation = db.edit("reservations", reservation_id)
    reservation["passengers"] = copied(passengers)
    return Result("ok", reservation)


def send_certificate(db: Overlay, user_id: str, amount: int | float) -> Result:
    """Give a user a certificate, up to three times."""
    user = found(db, "users", user_id, "user_not_found")
    payment_id = next((key for key in NEW_CERTIFICATES if key not in user["payment_methods"]), None)
    if payment_id is None:
        raise Refused("py_exception", problem=f"{user_id} has got {len(NEW_CERTIFICATES)} certificates already")
    methods = db.edit("users", user_id)["payment_methods"]
    methods[payment_id] = {"source": "certificate", "amount": copied(amount), "id": payment_id}
    return Result("certificate_ok", None, {"payment_id": payment_id, "user_id": user_id, "amount": str(amount)})


# --- parts ---------------------------------------------------------------------------------------------------


def _connections(db: Overlay, origin: str, destination: str) -> Iterator[tuple[Record, Record]]:
    flights = [flight for _, flight in db.rows("flights")]
    for first in flights:
        if first["origin"] == origin:
            yield from ((first, f) for f in flights if f["destination"] == destination and f["origin"] == first["destination"])


def _next_day(date: str) -> str:
    """The day after in May, as the original writes it: the 9th follows the 8th as "2024-05-9"."""
    try:
        return f"2024-05-{int(date[-2:]) + 1}"
    except ValueError:
        raise Refused("py_exception", problem=f"{date!r:.40} does not end with the day of a month") from None


def _is_available(flight: Record, date: str) -> bool:
    return date in flight["dates"] and flight["dates"][date]["status"] == "available"


def _on(flight: Record, date: str) -> Record:
    """A flight as it is listed for a day."""
    return {**{name: value for name, value in flight.items() if name != "dates"}, **flight["dates"][date]}


def _price_leg(db: Overlay, leg: Record, cabin: str, passengers: Sized) -> None:
    """Add price, origin and destination to a flight that is to be booked. Refuses one that cannot be."""
    number = leg["flight_number"]
    flight = db.get("flights", number)
    if flight is None:
        raise Refused("flight_not_found", flight_number=number)
    date = leg["date"]
    if date not in flight["dates"]:
        raise Refused("flight_date_not_found", flight_number=number, date=date)
    day = flight["dates"][date]
    if day["status"] != "available":
        raise Refused("flight_date_not_available", flight_number=number, date=date)
    if cabin not in day["available_seats"]:
        raise Refused("py_exception", problem=f"there is no cabin {cabin!r:.40}; expected {', '.join(day['available_seats'])}")
    if day["available_seats"][cabin] < len(passengers):
        raise Refused("not_enough_seats", flight_number=number)
    leg.update(price=day["prices"][cabin], origin=flight["origin"], destination=flight["destination"])


def _check_payment(db: Overlay, reservation: Record, payment_id: str, price: float) -> None:
    methods = found(db, "users", reservation["user_id"], "user_not_found")["payment_methods"]
    if payment_id not in methods:
        raise Refused("payment_method_not_found")
    method = methods[payment_id]
    if method["source"] == "certificate":
        raise Refused("certificate_not_allowed")
    if method["source"] == "gift_card" and method["amount"] < price:
        raise Refused("gift_card_short_update")


def _pay(db: Overlay, reservation: Record, payment_id: str, price: float) -> None:
    """Settle a price, which may be negative, and note it unless it is 0."""
    method = db.edit("users", reservation["user_id"])["payment_methods"][payment_id]
    if method["source"] == "gift_card":
        method["amount"] -= price
    if price != 0:
        reservation["payment_history"].append({"payment_id": payment_id, "amount": price})


TOOLS = tools_of(
    reads=(
        calculate,
        get_reservation_details,
        get_user_details,
        list_all_airports,
        search_direct_flight,
        search_onestop_flight,
        think,
        transfer_to_human_agents,
    ),
    writes=(
        book_reservation,
        cancel_reservation,
        send_certificate,
        update_reservation_baggages,
        update_reservation_flights,
        update_reservation_passengers,
    ),
)
