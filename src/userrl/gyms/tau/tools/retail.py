"""The 16 tools of an online shop: look up users, orders and products; change pending orders, return or exchange.

Orders of checks, roundings and oddities are those of tau-bench, since hashes and texts depend on them. Odd are: a tool
does not ask whose order it is; a cancellation refunds every entry of the payment history, refunds, too; the price
difference of a modification is not rounded, that of an exchange is; an order whose items were modified once is no
longer pending, so that nothing else of it can be changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from userrl.gyms.tau.database import Overlay, Record
from userrl.gyms.tau.tools.common import Refused, Result, calculate, found, think, tools_of, transfer_to_human_agents

REASONS = ("no longer needed", "ordered by mistake")
"""For which an order may be cancelled."""
GIFT_CARD = "gift_card"


# --- reading -------------------------------------------------------------------------------------------------


def find_user_id_by_email(db: Overlay, email: str) -> Result:
    """The first user with that address, whatever its case."""
    for user_id, user in db.rows("users"):
        if user["email"].lower() == email.lower():
            return Result("ok", user_id)
    raise Refused("user_not_found")


def find_user_id_by_name_zip(db: Overlay, first_name: str, last_name: str, zip: str) -> Result:
    """The first user of that name, whatever its case, who lives where that postal code is now."""
    for user_id, user in db.rows("users"):
        if (
            user["name"]["first_name"].lower() == first_name.lower()
            and user["name"]["last_name"].lower() == last_name.lower()
            and user["address"]["zip"] == zip
        ):
            return Result("ok", user_id)
    raise Refused("user_not_found")


def get_user_details(db: Overlay, user_id: str) -> Result:
    return Result("ok", found(db, "users", user_id, "user_not_found"))


def get_order_details(db: Overlay, order_id: str) -> Result:
    return Result("ok", found(db, "orders", order_id, "order_not_found"))


def get_product_details(db: Overlay, product_id: str) -> Result:
    return Result("ok", found(db, "products", product_id, "product_not_found"))


def list_all_product_types(db: Overlay) -> Result:
    """Name of each product -> its id, sorted by name."""
    ids = {product["name"]: product["product_id"] for _, product in db.rows("products")}
    return Result("ok", dict(sorted(ids.items())))


# --- pending orders ------------------------------------------------------------------------------------------


def cancel_pending_order(db: Overlay, order_id: str, reason: str) -> Result:
    """Cancel and refund. Gift cards get their money at once."""
    order = _with_status(db, order_id, "pending", "order_not_pending_cancel")
    if reason not in REASONS:
        raise Refused("invalid_reason")
    order = db.edit("orders", order_id)
    refunds = []
    for payment in order["payment_history"]:
        method, amount = payment["payment_method_id"], payment["amount"]
        refunds.append(_entry("refund", amount, method))
        if GIFT_CARD in method:
            _add_to_balance(db, order["user_id"], method, amount)
    order["status"] = "cancelled"
    order["cancel_reason"] = reason
    order["payment_history"].extend(refunds)
    return Result("ok", order)


def modify_pending_order_address(
    db: Overlay, order_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
) -> Result:
    _with_status(db, order_id, "pending", "order_not_pending_modify")
    order = db.edit("orders", order_id)
    order["address"] = _address(address1, address2, city, state, country, zip)
    return Result("ok", order)


def modify_pending_order_payment(db: Overlay, order_id: str, payment_method_id: str) -> Result:
    """Pay by another method, and get back what was paid by the first one."""
    order = _with_status(db, order_id, "pending", "order_not_pending_modify")
    method = _payment_method(db, order, payment_method_id)
    history = order["payment_history"]
    if len(history) > 1 or history[0]["transaction_type"] != "payment":
        raise Refused("not_exactly_one_payment")
    before, amount = history[0]["payment_method_id"], history[0]["amount"]
    if before == payment_method_id:
        raise Refused("same_payment_method")
    if _is_gift_card(method) and method["balance"] < amount:
        raise Refused("gift_card_short_order")
    order = db.edit("orders", order_id)
    order["payment_history"] += [_entry("payment", amount, payment_method_id), _entry("refund", amount, before)]
    if _is_gift_card(method):
        _add_to_balance(db, order["user_id"], payment_method_id, -amount)
    if GIFT_CARD in before:
        _add_to_balance(db, order["user_id"], before, amount)
    return Result("ok", order)


def modify_pending_order_items(
    db: Overlay, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> Result:
    """Put other variants of the same products in the place of items, and settle the difference."""
    order = _with_status(db, order_id, "pending", "order_not_pending_modify")
    difference = _price_difference(db, order, item_ids, new_item_ids)
    method = _payment_method(db, order, payment_method_id)
    if _is_gift_card(method) and method["balance"] < difference:
        raise Refused("gift_card_short_modify")
    order = db.edit("orders", order_id)
    kind = "payment" if difference > 0 else "refund"
    order["payment_history"].append(_entry(kind, abs(difference), payment_method_id))
    if _is_gift_card(method):
        _add_to_balance(db, order["user_id"], payment_method_id, -difference)
    for old_id, new_id in zip(item_ids, new_item_ids, strict=True):
        item = next(item for item in order["items"] if item["item_id"] == old_id)
        variant = _variants(db, item)[new_id]
        item.update(item_id=new_id, price=variant["price"], options=variant["options"])
    order["status"] = "pending (item modified)"
    return Result("ok", order)


# --- delivered orders ----------------------------------------------------------------------------------------


def exchange_delivered_order_items(
    db: Overlay, order_id: str, item_ids: list[str], new_item_ids: list[str], payment_method_id: str
) -> Result:
    """Ask for an exchange. No money moves yet."""
    order = _with_status(db, order_id, "delivered", "order_not_delivered_exchange")
    difference = round(_price_difference(db, order, item_ids, new_item_ids), 2)
    method = _payment_method(db, order, payment_method_id)
    if _is_gift_card(method) and method["balance"] < difference:
        raise Refused("gift_card_short_exchange")
    order = db.edit("orders", order_id)
    order["status"] = "exchange requested"
    order["exchange_items"] = sorted(item_ids)
    order["exchange_new_items"] = sorted(new_item_ids)
    order["exchange_payment_method_id"] = payment_method_id
    order["exchange_price_difference"] = difference
    return Result("ok", order)


def return_delivered_order_items(db: Overlay, order_id: str, item_ids: list[str], payment_method_id: str) -> Result:
    """Ask to give items back. Here the payment is checked before the items."""
    order = _with_status(db, order_id, "delivered", "order_not_delivered_return")
    _payment_method(db, order, payment_method_id)
    if GIFT_CARD not in payment_method_id and payment_method_id != order["payment_history"][0]["payment_method_id"]:
        raise Refused("payment_method_not_original_or_gift")
    if _too_often(order, item_ids) is not None:
        raise Refused("return_item_not_found")
    order = db.edit("orders", order_id)
    order["status"] = "return requested"
    order["return_items"] = sorted(item_ids)
    order["return_payment_method_id"] = payment_method_id
    return Result("ok", order)


# --- users ---------------------------------------------------------------------------------------------------


def modify_user_address(
    db: Overlay, user_id: str, address1: str, address2: str, city: str, state: str, country: str, zip: str
) -> Result:
    found(db, "users", user_id, "user_not_found")
    user = db.edit("users", user_id)
    user["address"] = _address(address1, address2, city, state, country, zip)
    return Result("ok", user)


# --- parts ---------------------------------------------------------------------------------------------------


def _with_status(db: Overlay, order_id: str, status: str, otherwise: str) -> Record:
    order = found(db, "orders", order_id, "order_not_found")
    if order["status"] != status:
        raise Refused(otherwise)
    return order


def _payment_method(db: Overlay, order: Record, method_id: str) -> Record:
    methods = found(db, "users", order["user_id"], "user_not_found")["payment_methods"]
    if method_id not in methods:
        raise Refused("payment_method_not_found")
    method: Record = methods[method_id]
    return method


def _is_gift_card(method: Record) -> bool:
    return bool(method["source"] == GIFT_CARD)


def _add_to_balance(db: Overlay, user_id: str, method_id: str, amount: float) -> None:
    method = db.edit("users", user_id)["payment_methods"][method_id]
    method["balance"] = round(method["balance"] + amount, 2)


def _price_difference(db: Overlay, order: Record, item_ids: Sequence[str], new_item_ids: Sequence[str]) -> float:
    """What the new items cost more than the old ones, unrounded; 0 (not 0.0) for no items. Refuses what does not fit."""
    missing = _too_often(order, item_ids)
    if missing is not None:
        raise Refused("item_not_found", item_id=missing)
    if len(item_ids) != len(new_item_ids):
        raise Refused("item_count_mismatch")
    difference = 0
    for old_id, new_id in zip(item_ids, new_item_ids, strict=True):
        item = next(item for item in order["items"] if item["item_id"] == old_id)
        variants = _variants(db, item)
        if new_id not in variants or not variants[new_id]["available"]:
            raise Refused("new_item_unavailable", new_item_id=new_id)
        difference += variants[new_id]["price"] - item["price"]
    return difference


def _too_often(order: Record, item_ids: Sequence[str]) -> str | None:
    """The first of the ids that is asked for more often than the order holds it."""
    held = [item["item_id"] for item in order["items"]]
    return next((item_id for item_id in item_ids if item_ids.count(item_id) > held.count(item_id)), None)


def _variants(db: Overlay, item: Record) -> Mapping[str, Record]:
    variants: Mapping[str, Record] = found(db, "products", item["product_id"], "product_not_found")["variants"]
    return variants


def _address(address1: str, address2: str, city: str, state: str, country: str, zip: str) -> Record:
    return {"address1": address1, "address2": address2, "city": city, "state": state, "country": country, "zip": zip}


def _entry(kind: str, amount: float, method_id: str) -> Record:
    return {"transaction_type": kind, "amount": amount, "payment_method_id": method_id}


TOOLS = tools_of(
    reads=(
        calculate,
        find_user_id_by_email,
        find_user_id_by_name_zip,
        get_order_details,
        get_product_details,
        get_user_details,
        list_all_product_types,
        think,
        transfer_to_human_agents,
    ),
    writes=(
        cancel_pending_order,
        exchange_delivered_order_items,
        modify_pending_order_address,
        modify_pending_order_items,
        modify_pending_order_payment,
        modify_user_address,
        return_delivered_order_items,
    ),
)
