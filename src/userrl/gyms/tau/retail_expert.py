"""The expert at the help desk of the store."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from userrl.core import Action
from userrl.gyms.tau.listening import mentions
from userrl.gyms.tau.notes import Notes, Record, intent_of, lookup, method_in, methods_of, money, people_in, say, spoken, use

INTENTS: Mapping[str, Sequence[str]] = {
    "count": ["how many"],
    "amount": ["how much", "what is the total", "how large"],
    "user_address": ["default address", "profile", "my account"],
    "order_address": ["address", "is sent to", "where an order is sent", "deliver it to"],
    "order_payment": ["pay", "payment method", "payment", "charged", "is paid"],
    "return": ["return", "send something back", "send it back", "bring back", "money back"],
    "items": [
        "exchang*",
        "swap*",
        "version",
        "another color",
        "another size",
        "modify",
        "change something",
        "change an item",
        "wrong item",
    ],
    "cancel": ["cancel*"],
}
"""Wish -> phrases that bring it up; the first that fits counts."""

ORDER = re.compile(r"#W\d{7}")
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
ADDRESS = re.compile(r"(\d+ [^,\n]+), (?:([^,\n]+), )?([^,\n]+), ([A-Z]{2}) (\d{5})(?:, (\w+))?")
OTHER_PRODUCT = re.compile(
    r"\bin place of (?:the|it)\b|\binstead of the\b|\bfor an? (?!one\b|different\b|new\b|moment\b|second\b)", re.IGNORECASE
)
FORGOTTEN = re.compile(r"\b(?:order|one) with the\b|\bin that order\b")


def act(n: Notes) -> Action:
    if not n.user_id:
        return identify(n)
    handlers = {
        "count": count,
        "amount": amount,
        "user_address": user_address,
        "order_address": order_address,
        "order_payment": order_payment,
        "return": return_items,
        "items": change_items,
        "cancel": cancel,
    }
    handler = handlers.get(intent_of(n.wish[0], INTENTS) or intent_of(n.text, INTENTS))
    if handler:
        return n.settled() or handler(n)
    return n.ask("What can I do for you?", "How can I help you?")


def identify(n: Notes) -> Action:
    text = "\n".join(n.told)
    if (email := EMAIL.search(text)) and not n.lost:
        return use("find_user_id_by_email", email=email[0])
    names, zips = people_in("\n".join(n.told[1:])), re.findall(r"(?<![\w#])\d{5}(?!\w)", text)
    if names and zips:
        first, last = names[-1].split()
        return use("find_user_id_by_name_zip", first_name=first, last_name=last, zip=zips[-1])
    if any("email" in mine for mine in n.asked):
        return n.ask(
            "Then please tell me your full name and your zip code.", "Could you give me your full name and zip code instead?"
        )
    return n.ask(
        "May I have the email address of your account?",
        "I am happy to help. What is your email address?",
        "Could you tell me your email, so that I can find your account?",
    )


# --- what a wish is about --------------------------------------------------------------------------------------


def order_of(n: Notes, *also: str) -> Record | Action:
    """The order that the wish is about, or the next move to find it. `also`: what else is asked for in one go."""
    ids = ORDER.findall(n.text)
    if ids:
        return n.records.get(ids[-1]) or use("get_order_details", order_id=ids[-1])
    if FORGOTTEN.search(n.text):
        if not n.user:
            return use("get_user_details", user_id=n.user_id)
        described = " ".join(sentence for sentence in sentences(n.text) if FORGOTTEN.search(sentence))
        for key in n.user["orders"]:
            if key not in n.records:
                return use("get_order_details", order_id=key)
            if named_items(n.records[key]["items"], described):
                return n.records[key]
    if "same order" in n.text and n.about in n.records:
        return n.records[n.about]
    return say(question(n, "which order it is", *also))


ASKS = ("Please tell me", "To go on, please let me know", "For that I need to know")
QUESTIONS = {
    "reason": "the reason for it",
    "return items": "which items you want to return",
    "refund": "to which payment method the refund should go",
    "change items": "which items it is about",
    "options": "what you want instead, that is, which options",
    "difference": "which payment method to use for a difference in price",
    "address": "the new address",
    "new method": "which payment method you want to use instead",
    "which order it is": "which order it is (the order number)",
}


def question(n: Notes, *wanted: str) -> str:
    """One question for several things."""
    texts = [QUESTIONS[name] for name in wanted]
    joined = texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])}, and {texts[-1]}"
    methods = methods_of(n.user) if {"refund", "difference", "new method"} & set(wanted) else ""
    return f"{n.rng.choice(ASKS)} {joined}.{methods}"


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+|\n+", text)


def named_items(items: Sequence[Record], text: str) -> list[Record]:
    """The items that a text names in full; else those that it names by the last word, as in "the pillow"."""
    whole = [item for item in items if mentions(text, [item["name"]])]
    return whole or [item for item in items if mentions(text, [word for word in item["name"].split()[-1:] if len(word) > 3])]


def wanted_items(n: Notes, order: Record) -> list[Record]:
    """The items that the user named, other than to say which order it is."""
    said = " ".join(sentence for sentence in sentences(n.text) if not FORGOTTEN.search(sentence))
    return named_items(order["items"], said)


def method_of(n: Notes, order: Record) -> str | Action:
    """The id of the method that the user named; "" when none was."""
    if not n.user:
        return use("get_user_details", user_id=n.user_id)
    if re.search(r"\boriginal\b|\bway i paid\b|\bsame method\b", n.text.casefold()):
        paid: str = order["payment_history"][0]["payment_method_id"]
        return paid
    return method_in(n.text, n.user["payment_methods"])


def is_mine(n: Notes, order: Record) -> bool:
    return bool(order["user_id"] == n.user_id)


NOT_MINE = "This order does not belong to your account, and I may only work on yours."


# --- wishes ------------------------------------------------------------------------------------------------------


def cancel(n: Notes) -> Action:
    order = order_of(n, *([] if reason_in(n.text) else ["reason"]))
    if isinstance(order, Action):
        return order
    if not is_mine(n, order):
        return n.refuse(NOT_MINE, use("cancel_pending_order", order_id=order["order_id"], reason="no longer needed"))
    if order["status"] != "pending":
        return n.refuse(f"Only open orders can be cancelled, and order {order['order_id']} is {order['status']}.")
    reason = reason_in(n.text)
    if not reason:
        return say(question(n, "reason"))
    if reason == "other":
        forced = use("cancel_pending_order", order_id=order["order_id"], reason="no longer needed")
        return n.refuse("An order is only cancelled when it is not needed any more or was a mistake.", forced)
    why = "is no longer needed" if reason == "no longer needed" else "was ordered by mistake"
    key, paid = order["order_id"], order["payment_history"][0]
    return n.carry_out(
        use("cancel_pending_order", order_id=key, reason=reason),
        f"I will cancel order {key}, which {why}, and {money(paid['amount'])} go back the way they were paid.",
    )


def reason_in(text: str) -> str:
    """One of the two reasons that count, "other" for one that does not, "" for none."""
    if mentions(text, ["mistake", "accident", "by error"]):
        return "ordered by mistake"
    if mentions(text, ["no longer need*", "not need*", "don't need*"]):
        return "no longer needed"
    return "other" if mentions(text, ["cheaper", "better price", "too long", "wait so long", "too late"]) else ""


def return_items(n: Notes) -> Action:
    order = order_of(n, "return items", "refund")
    if isinstance(order, Action):
        return order
    if not is_mine(n, order):
        return n.refuse(NOT_MINE)
    if order["status"] != "delivered":
        return n.refuse(f"Only delivered orders can be returned, and order {order['order_id']} is {order['status']}.")
    items, method = wanted_items(n, order), method_of(n, order)
    if isinstance(method, Action):
        return method
    wanted = [*([] if items else ["return items"]), *([] if method else ["refund"])]
    if wanted:
        return say(question(n, *wanted))
    paid = order["payment_history"][0]["payment_method_id"]
    arguments = {"order_id": order["order_id"], "item_ids": [item["item_id"] for item in items], "payment_method_id": method}
    if method != paid and n.user["payment_methods"][method]["source"] != "gift_card":
        elsewhere = use("return_delivered_order_items", **{**arguments, "payment_method_id": paid})
        return n.refuse(
            "The money can only go back to the method that was used for the order, or to a gift card of yours.", elsewhere
        )
    names, total = named(items), money(round(sum(item["price"] for item in items), 2))
    return n.carry_out(
        use("return_delivered_order_items", **arguments),
        f"I will take back the {names} from order {order['order_id']} as a return, and refund {total} to your "
        f"{spoken(n.user['payment_methods'][method])}.",
    )


def named(items: Sequence[Record]) -> str:
    names = [item["name"].lower() for item in items]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def change_items(n: Notes) -> Action:
    """Exchange of a delivered order, change of a pending one."""
    order = order_of(n, "change items", "options", "difference")
    if isinstance(order, Action):
        return order
    if not is_mine(n, order):
        return n.refuse(NOT_MINE)
    if order["status"] not in ("delivered", "pending"):
        return n.refuse(f"Order {order['order_id']} is {order['status']}, so nothing in it can be changed.")
    items = wanted_items(n, order)
    if not items:
        return say(question(n, "change items", "options"))
    if OTHER_PRODUCT.search(n.text):
        return n.refuse("An item can only become another version of the same product, not another product.")
    pairs = []
    for item in items:
        if item["product_id"] not in n.records:
            return use("get_product_details", product_id=item["product_id"])
        variants = n.records[item["product_id"]]["variants"].values()
        options = options_in(n.text, item, variants)
        if not options:
            return say(question(n, "options"))
        fitting = [v for v in variants if v["options"] == {**item["options"], **options}]
        if not any(v["available"] for v in fitting):
            return n.refuse(f"The {item['name'].lower()} is not available in that version.")
        pairs.append((item, fitting[0], options))
    method = method_of(n, order)
    if isinstance(method, Action):
        return method
    if not method:
        return say(question(n, "difference"))
    difference = round(sum(variant["price"] - item["price"] for item, variant, _ in pairs), 2)
    arguments = {
        "order_id": order["order_id"],
        "item_ids": [item["item_id"] for item, _, _ in pairs],
        "new_item_ids": [variant["item_id"] for _, variant, _ in pairs],
        "payment_method_id": method,
    }
    exchange = order["status"] == "delivered"
    changes = " and ".join(f"the {item['name'].lower()} for one with {spelled(options)}" for item, _, options in pairs)
    goes = "are charged" if difference > 0 else "go back"
    pays = f"{money(abs(difference))} {goes} to your {spoken(n.user['payment_methods'][method])}"
    later = "" if exchange else " Afterwards this order can no longer be changed or cancelled."
    return n.carry_out(
        use("exchange_delivered_order_items" if exchange else "modify_pending_order_items", **arguments),
        f"In order {order['order_id']} I will exchange {changes}; {pays}.{later}",
    )


def spelled(options: Mapping[str, str]) -> str:
    return " and ".join(f"{option} {value}" for option, value in options.items())


def options_in(text: str, item: Record, variants: Sequence[Record]) -> dict[str, str]:
    """The options that the user wants for an item: "color red" after its name; else any value of an option."""
    segments = [
        re.split(r"(?:,| and)? the [a-z ]+ with ", segment)[0]
        for segment in re.split(re.escape(f"{item['name'].lower()} with "), text.casefold())[1:]
    ]
    values = {option: sorted({v["options"][option] for v in variants}) for option in item["options"]}
    said = "\n".join(segments)
    found = {option: v for option, several in values.items() for v in several if mentions(said, [f"{option} {v}"])}
    if found:
        return found
    known = " ".join(sentence for sentence in sentences(text) if not FORGOTTEN.search(sentence))
    return {
        option: v for option, several in values.items() for v in several if v != item["options"][option] and mentions(known, [v])
    }


def order_address(n: Notes) -> Action:
    place = address_in(n.text)
    order = order_of(n, *([] if place else ["address"]))
    if isinstance(order, Action):
        return order
    if not is_mine(n, order):
        return n.refuse(NOT_MINE)
    if order["status"] != "pending":
        return n.refuse(
            f"The address can only be changed as long as an order is open, and order {order['order_id']} is {order['status']}."
        )
    if not place:
        return say(question(n, "address"))
    return n.carry_out(
        use("modify_pending_order_address", order_id=order["order_id"], **place),
        f"I will send order {order['order_id']} to the address {address_text(place)}.",
    )


def address_in(text: str) -> Record:
    """The last address in a text, as the tools want it; empty for none."""
    found = ADDRESS.findall(text)
    if not found:
        return {}
    street, unit, city, state, zip_code, country = found[-1]
    return {"address1": street, "address2": unit, "city": city, "state": state, "country": country or "USA", "zip": zip_code}


def address_text(place: Record) -> str:
    return ", ".join(
        part for part in (place["address1"], place["address2"], place["city"], f"{place['state']} {place['zip']}") if part
    )


def order_payment(n: Notes) -> Action:
    order = order_of(n, "new method")
    if isinstance(order, Action):
        return order
    if not is_mine(n, order):
        return n.refuse(NOT_MINE)
    if order["status"] != "pending":
        return n.refuse(
            f"The payment can only be changed as long as an order is open, and order {order['order_id']} is {order['status']}."
        )
    method = method_of(n, order)
    if isinstance(method, Action):
        return method
    if not method:
        return say(question(n, "new method"))
    paid, chosen = order["payment_history"][0], n.user["payment_methods"][method]
    if chosen.get("balance", paid["amount"]) < paid["amount"]:
        return n.refuse(f"The gift card does not cover the {money(paid['amount'])} of this order.")
    return n.carry_out(
        use("modify_pending_order_payment", order_id=order["order_id"], payment_method_id=method),
        f"I will charge the {money(paid['amount'])} of order {order['order_id']} to your {spoken(chosen)} instead.",
    )


def user_address(n: Notes) -> Action:
    place = address_in(n.text)
    if not place:
        return say(question(n, "address"))
    return n.carry_out(
        use("modify_user_address", user_id=n.user_id, **place),
        f"I will change the default address of your account to {address_text(place)}.",
    )


def count(n: Notes) -> Action:
    listing = n.lists.get(lookup("list_all_product_types"))
    if listing is None:
        return use("list_all_product_types")
    product = next((key for name, key in listing.items() if mentions(n.text, [name])), None)
    if product is None:
        return n.ask("Which product do you mean?")
    if product not in n.records:
        return use("get_product_details", product_id=product)
    record = n.records[product]
    number = sum(variant["available"] for variant in record["variants"].values())
    return n.close(f"There are {number} variants of the {record['name'].lower()} available right now.")


def amount(n: Notes) -> Action:
    """Of what was done last."""
    if n.last is None or not isinstance(n.last[2], dict):
        return n.refuse("I do not know which sum you mean.")
    name, arguments, order = n.last
    if name == "exchange_delivered_order_items":
        return n.close(f"The difference in price is {money(abs(order['exchange_price_difference']))} in total.")
    total = sum(item["price"] for item in order["items"] if item["item_id"] in arguments.get("item_ids", ()))
    return n.close(f"The refund is {money(round(total, 2))} in total.")
