"""What customers of the store want, by kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from userrl.gyms.tau.goals import (
    FORGOTTEN,
    NAMED,
    Draw,
    Fact,
    Goal,
    Maker,
    Named,
    amount,
    amount_of,
    call,
    listed,
    method_check,
    method_name,
    named_again,
)
from userrl.gyms.tau.world import Record, address, content


def named_order(d: Draw, order: Record, kind: str) -> Named:
    key, mine = order["order_id"], [d.tables["orders"][other] for other in d.user["orders"]]
    if d.same:
        return named_again(d, "order", kind)
    held = [item["name"] for other in mine for item in other["items"]]
    alone = [item["name"].lower() for item in order["items"] if held.count(item["name"]) == 1]
    draw = d.rng.random()
    if d.alone and draw < FORGOTTEN and alone and len(mine) <= 3:
        item = d.rng.choice(alone)
        fact = d.fact("order_forgotten", f"the one with the {item}", item=item)
        return Named(f"your order with the {item} (you have forgotten its number)", fact, d.words(kind, "asks"), ())
    fact = d.fact("order", key)
    asks = d.words(kind, "named", order=key) if draw > 1 - NAMED else d.words(kind, "asks")
    return Named(f"your order {key}", fact, asks, ({"right": [key], "wrong": ["#W*"], "says": fact["says"]},))


def orders(d: Draw, *statuses: str) -> list[Record]:
    """The user's orders in these states that the goal may be about."""
    mine = (d.tables["orders"][key] for key in d.user["orders"] if d.may(key))
    return [order for order in mine if order["status"] in statuses]


def cancel(
    d: Draw,
    kind: str = "cancel",
    statuses: Sequence[str] = ("pending",),
    reasons: Sequence[str] = ("no longer needed", "ordered by mistake"),
) -> Goal | None:
    order = d.pick(orders(d, *statuses))
    if order is None:
        return None
    reason, named = d.rng.choice(reasons), named_order(d, order, "cancel")
    why = d.words("reasons", reason)
    wrong = {"no longer needed": ["mistake", "accident*"], "ordered by mistake": ["no longer need*", "not need*"]}
    right = {"no longer needed": ["no longer need*", "not need*"], "ordered by mistake": ["mistake", "accident*"]}
    check = [{"right": right[reason], "wrong": wrong[reason], "says": why}] if reason in right else []
    allowed = kind == "cancel"
    return Goal(
        "cancel",
        named.asks,
        d.words(kind, "wants", why=why, **named.slots),
        {"order": named.fact, "reason": {"value": why, "says": why}},
        [*named.checks, *check],
        [call("cancel_pending_order", order_id=order["order_id"], reason=reason)] if allowed else [],
        touches=frozenset({order["order_id"]}),
    )


def foreign_order(d: Draw) -> Goal | None:
    others = [key for key, order in d.tables["orders"].items() if order["user_id"] != d.user_id and order["status"] == "pending"]
    key, why = d.rng.choice(others), d.words("reasons", "no longer needed")
    facts = {"order": d.fact("order", key), "reason": {"value": why, "says": why}}
    return Goal(
        "cancel",
        d.words("foreign_order", "asks"),
        d.words("foreign_order", "wants", order=key, why=why),
        facts,
        touches=frozenset({key}),
    )


def items_fact(d: Draw, items: Sequence[Record]) -> Fact:
    return d.fact("items", listed([item["name"].lower() for item in items]))


def items_check(order: Record, items: Sequence[Record], says: str) -> Record:
    """A plan is wrong that names another item of the order, or only some of these."""
    names = [item["name"].lower() for item in items]
    others = [item["name"].lower() for item in order["items"] if item["name"].lower() not in names]
    return {"right": [], "wrong": others, "all": names, "says": says}


def return_items(d: Draw, kind: str = "return") -> Goal | None:
    order = d.pick(orders(d, "delivered"))
    if order is None:
        return None
    items = d.rng.sample(order["items"], d.rng.randint(1, min(3, len(order["items"]))))
    methods, paid = d.user["payment_methods"], order["payment_history"][0]["payment_method_id"]
    gifts = [key for key, method in methods.items() if method["source"] == "gift_card" and key != paid]
    if kind == "return_method":
        method = d.pick(key for key in methods if key != paid and key not in gifts)
    else:
        method = d.rng.choice(gifts) if gifts and d.rng.random() < 0.4 else paid
    if method is None:
        return None
    named, fact = named_order(d, order, "return"), items_fact(d, items)
    original = method == paid and d.rng.random() < 0.5
    how = d.fact("original", "the original payment method") if original else d.fact("method", method_name(methods[method]))
    tail = "the way you paid" if original else f"through your {how['value']}"
    also = ["original", "the way you paid", "same method"] if method == paid else []
    arguments = {"order_id": order["order_id"], "item_ids": [item["item_id"] for item in items], "payment_method_id": method}
    return Goal(
        "return",
        named.asks,
        d.words(kind, "wants", items=fact["value"], how=tail, method=how["value"], **named.slots),
        {"order": named.fact, "items": fact, "method": how},
        [*named.checks, items_check(order, items, fact["says"]), method_check(d.user, method, how["says"], also)],
        [call("return_delivered_order_items", **arguments)] if kind == "return" else [],
        touches=frozenset({order["order_id"]}),
    )


def other_variants(d: Draw, item: Record, *, available: bool = True, most: int = 2) -> list[Record]:
    """Variants of the same product that differ in up to `most` options."""
    variants = d.tables["products"][item["product_id"]]["variants"].values()
    return [v for v in variants if v["available"] is available and 1 <= len(changed(item, v)) <= most]


def changed(item: Record, variant: Record) -> list[str]:
    return [option for option, value in variant["options"].items() if item["options"][option] != value]


def change_text(item: Record, variant: Record) -> str:
    """As in "the wall clock with digits roman and color oak"."""
    wishes = [f"{option} {variant['options'][option]}" for option in changed(item, variant)]
    return f"the {item['name'].lower()} with {listed(wishes)}"


def change_checks(d: Draw, item: Record, variant: Record, says: str) -> Iterable[Record]:
    """For each option that changes: a plan is wrong that names another value instead."""
    for option in changed(item, variant):
        values = {v["options"][option] for v in d.tables["products"][item["product_id"]]["variants"].values()}
        right = variant["options"][option]
        yield {"right": [right, variant["item_id"]], "wrong": sorted(values - {right}), "says": says}


def change_items(d: Draw, kind: str) -> Goal | None:
    """Exchange (of a delivered order) or modify (of a pending one) one or two items."""
    order = d.pick(orders(d, "delivered" if kind.startswith("exchange") else "pending"))
    if order is None:
        return None
    sold_out = kind == "exchange_sold_out"
    pairs = []
    for item in d.rng.sample(order["items"], min(len(order["items"]), 1 if sold_out else d.rng.randint(1, 2 if d.alone else 1))):
        if variant := d.pick(other_variants(d, item, available=not sold_out, most=1 if sold_out or d.rng.random() < 0.7 else 2)):
            pairs.append((item, variant))
    difference = round(sum(variant["price"] - item["price"] for item, variant in pairs), 2)
    methods = d.user["payment_methods"]
    method = d.pick(key for key, m in methods.items() if amount_of(m) >= difference)
    if not pairs or method is None or difference == 0:
        return None
    base = "modify" if kind == "modify" else "exchange"
    named, fact = named_order(d, order, base), items_fact(d, [item for item, _ in pairs])
    change = d.fact("change", listed([change_text(item, variant) for item, variant in pairs]))
    how = d.fact("method", method_name(methods[method]))
    arguments = {
        "order_id": order["order_id"],
        "item_ids": [item["item_id"] for item, _ in pairs],
        "new_item_ids": [variant["item_id"] for _, variant in pairs],
        "payment_method_id": method,
    }
    changes = listed([change_text(item, variant).replace(" with ", " for one with ", 1) for item, variant in pairs])
    checks = [check for item, variant in pairs for check in change_checks(d, item, variant, change["says"])]
    items = [item for item, _ in pairs]
    tool = "modify_pending_order_items" if kind == "modify" else "exchange_delivered_order_items"
    return Goal(
        base,
        named.asks,
        d.words(kind, "wants", changes=changes, how=f"through your {how['value']}", **named.slots),
        {"order": named.fact, "items": fact, "change": change, "method": how},
        [*named.checks, items_check(order, items, fact["says"]), *checks, method_check(d.user, method, how["says"])],
        [] if sold_out else [call(tool, **arguments)],
        touches=frozenset({order["order_id"]}),
    )


def exchange_other(d: Draw) -> Goal | None:
    order = d.pick(orders(d, "delivered"))
    if order is None:
        return None
    item, named = d.rng.choice(order["items"]), named_order(d, order, "exchange")
    held = {other["name"] for other in order["items"]}
    names = {"item": item["name"].lower(), "other": d.rng.choice(sorted(set(content("products")) - held)).lower()}
    change = d.words("exchange_other", "change", **names)
    facts = {
        "order": named.fact,
        "items": items_fact(d, [item]),
        "change": {"value": "a {other} in place of it".format(**names), "says": change},
    }
    wants = d.words("exchange_other", "wants", **names, **named.slots)
    return Goal("exchange", named.asks, wants, facts, named.checks, touches=frozenset({order["order_id"]}))


def address_text(place: Record) -> str:
    return "{address1}, {address2}, {city}, {state} {zip}, {country}".format(**place)


def order_address(d: Draw, kind: str = "order_address", statuses: Sequence[str] = ("pending",)) -> Goal | None:
    order = d.pick(orders(d, *statuses))
    if order is None:
        return None
    named, place = named_order(d, order, "order_address"), address(d.rng)
    fact = d.fact("address", address_text(place))
    check = {
        "right": [place["address1"]],
        "wrong": [order["address"]["address1"], d.user["address"]["address1"]],
        "says": fact["says"],
    }
    return Goal(
        "order_address",
        named.asks,
        d.words(kind, "wants", address=fact["value"], **named.slots),
        {"order": named.fact, "address": fact},
        [*named.checks, check],
        [call("modify_pending_order_address", order_id=order["order_id"], **place)] if kind == "order_address" else [],
        touches=frozenset({order["order_id"]}),
    )


def order_payment(d: Draw, kind: str = "order_payment") -> Goal | None:
    order = d.pick(orders(d, "pending"))
    if order is None:
        return None
    paid, methods = order["payment_history"][0], d.user["payment_methods"]
    others = {key: method for key, method in methods.items() if key != paid["payment_method_id"]}
    short = kind == "payment_short"
    method = d.pick(key for key, m in others.items() if (amount_of(m) < paid["amount"]) is short)
    if method is None:
        return None
    named, how = named_order(d, order, "order_payment"), d.fact("method", method_name(methods[method]))
    check = method_check(d.user, method, how["says"])
    return Goal(
        "order_payment",
        named.asks,
        d.words(kind, "wants", method=how["value"], **named.slots),
        {"order": named.fact, "method": how},
        [*named.checks, check],
        [] if short else [call("modify_pending_order_payment", order_id=order["order_id"], payment_method_id=method)],
        touches=frozenset({order["order_id"]}),
    )


def user_address(d: Draw) -> Goal | None:
    place = address(d.rng)
    fact = d.fact("address", address_text(place))
    return Goal(
        "user_address",
        d.words("user_address", "asks"),
        d.words("user_address", "wants", address=fact["value"]),
        {"address": fact},
        [{"right": [place["address1"]], "wrong": [d.user["address"]["address1"]], "says": fact["says"]}],
        [call("modify_user_address", user_id=d.user_id, **place)],
        touches=frozenset({d.user_id}),
    )


def count(d: Draw) -> Goal | None:
    product = d.rng.choice(list(d.tables["products"].values()))
    number, item = sum(v["available"] for v in product["variants"].values()), product["name"].lower()
    asks, wants = d.words("count", "asks", item=item), d.words("count", "wants", item=item)
    return Goal("count", asks, wants, outputs=[str(number)], touches=frozenset({product["product_id"]}))


def amount_return(d: Draw) -> Goal | None:
    """Of the return before it."""
    [made] = d.before[-1].calls
    prices = {item["item_id"]: item["price"] for item in d.tables["orders"][made["arguments"]["order_id"]]["items"]}
    return amount(d, "amount_return", round(sum(prices[item] for item in made["arguments"]["item_ids"]), 2))


def amount_exchange(d: Draw) -> Goal | None:
    """Of the exchange before it."""
    [made] = d.before[-1].calls
    old = {item["item_id"]: item for item in d.tables["orders"][made["arguments"]["order_id"]]["items"]}
    difference = 0.0
    for one, other in zip(made["arguments"]["item_ids"], made["arguments"]["new_item_ids"], strict=True):
        difference += d.tables["products"][old[one]["product_id"]]["variants"][other]["price"] - old[one]["price"]
    return amount(d, "amount_exchange", abs(round(difference, 2)))


MAKERS: Mapping[str, Maker] = {
    "cancel": cancel,
    "return": return_items,
    "exchange": partial(change_items, kind="exchange"),
    "modify": partial(change_items, kind="modify"),
    "order_address": order_address,
    "order_payment": order_payment,
    "user_address": user_address,
    "count": count,
    "amount_return": amount_return,
    "amount_exchange": amount_exchange,
    "cancel_shipped": partial(cancel, kind="cancel_shipped", statuses=("processed", "delivered")),
    "cancel_reason": partial(cancel, kind="cancel_reason", reasons=("found cheaper", "too slow")),
    "foreign_order": foreign_order,
    "return_method": partial(return_items, kind="return_method"),
    "exchange_other": exchange_other,
    "exchange_sold_out": partial(change_items, kind="exchange_sold_out"),
    "address_shipped": partial(order_address, kind="address_shipped", statuses=("processed", "delivered")),
    "payment_short": partial(order_payment, kind="payment_short"),
}
"""Kind of goal -> maker. What stands after `amount_exchange` is forbidden."""
