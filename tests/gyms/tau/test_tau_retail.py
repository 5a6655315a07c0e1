"""The shop's tools: effects, order of checks, and refusals that change nothing."""

from typing import Any

import pytest

from tiny_bench import call, record, refused, shop
from userrl.gyms.tau import database
from userrl.gyms.tau.database import Overlay

MOVED = {"address1": "1 New Way", "address2": "Apt 2", "city": "Rivet", "state": "NV", "country": "USA", "zip": "89501"}


@pytest.fixture
def db() -> Overlay:
    return shop()


def balance(db: Overlay) -> float:
    return float(record(db, "users", "ada_voss_1111")["payment_methods"]["gift_card_1"]["balance"])


def entry(kind: str, amount: float, method: str) -> dict[str, Any]:
    return {"transaction_type": kind, "amount": amount, "payment_method_id": method}


def test_users_are_found_by_email_in_any_case_and_by_name_and_current_zip(db: Overlay) -> None:
    assert call(db, "find_user_id_by_email", email="ada.VOSS@example.com").value == "ada_voss_1111"
    assert refused(db, "find_user_id_by_email", email="ada") == "user_not_found"
    assert call(db, "find_user_id_by_name_zip", first_name="ADA", last_name="voss", zip="97001").value == "ada_voss_1111"
    call(db, "modify_user_address", user_id="ada_voss_1111", **MOVED)
    assert refused(db, "find_user_id_by_name_zip", first_name="Ada", last_name="Voss", zip="97001") == "user_not_found"
    assert call(db, "find_user_id_by_name_zip", first_name="Ada", last_name="Voss", zip="89501").ok


def test_details_are_the_records_as_they_are_now(db: Overlay) -> None:
    assert call(db, "get_order_details", order_id="#W3").value["status"] == "pending"
    call(db, "cancel_pending_order", order_id="#W3", reason="no longer needed")
    assert call(db, "get_order_details", order_id="#W3").value["status"] == "cancelled"
    assert call(db, "list_all_product_types").value == {"Lamp": "5000000002", "Mug": "5000000001"}
    assert list(call(db, "list_all_product_types").value) == ["Lamp", "Mug"]
    assert refused(db, "get_order_details", order_id="W3") == "order_not_found"
    assert refused(db, "get_product_details", product_id="7000000001") == "product_not_found"
    assert refused(db, "get_user_details", user_id="Ada_Voss_1111") == "user_not_found"


def test_a_cancellation_refunds_and_a_gift_card_gets_its_money_at_once(db: Overlay) -> None:
    order = call(db, "cancel_pending_order", order_id="#W1", reason="ordered by mistake").value
    assert (order["status"], order["cancel_reason"]) == ("cancelled", "ordered by mistake")
    assert order["payment_history"][1:] == [entry("refund", 48.2, "gift_card_1")]
    assert balance(db) == 98.2
    assert refused(db, "cancel_pending_order", order_id="#W1", reason="no longer needed") == "order_not_pending_cancel"


def test_a_cancellation_checks_order_then_status_then_reason(db: Overlay) -> None:
    assert refused(db, "cancel_pending_order", order_id="#W9", reason="bored") == "order_not_found"
    assert refused(db, "cancel_pending_order", order_id="#W5", reason="bored") == "order_not_pending_cancel"
    assert refused(db, "cancel_pending_order", order_id="#W1", reason="bored") == "invalid_reason"


def test_a_cancellation_refunds_every_entry_after_a_change_of_payment(db: Overlay) -> None:
    call(db, "modify_pending_order_payment", order_id="#W1", payment_method_id="credit_card_1")
    assert balance(db) == 98.2
    order = call(db, "cancel_pending_order", order_id="#W1", reason="no longer needed").value
    methods = ["gift_card_1", "credit_card_1", "gift_card_1"]
    assert order["payment_history"][3:] == [entry("refund", 48.2, method) for method in methods]
    assert balance(db) == round(98.2 + 2 * 48.2, 2)


def test_an_order_goes_to_another_address_with_the_keys_in_a_fixed_order(db: Overlay) -> None:
    order = call(db, "modify_pending_order_address", order_id="#W1", **dict(reversed(MOVED.items()))).value
    assert list(order["address"].items()) == list(MOVED.items())
    assert refused(db, "modify_pending_order_address", order_id="#W2", **MOVED) == "order_not_pending_modify"


def test_another_payment_method_pays_and_the_first_is_paid_back(db: Overlay) -> None:
    order = call(db, "modify_pending_order_payment", order_id="#W1", payment_method_id="credit_card_1").value
    assert order["status"] == "pending"
    assert order["payment_history"][1:] == [entry("payment", 48.2, "credit_card_1"), entry("refund", 48.2, "gift_card_1")]


@pytest.mark.parametrize(
    ("order_id", "method", "code"),
    [
        ("#W9", "x", "order_not_found"),
        ("#W2", "x", "order_not_pending_modify"),
        ("#W1", "paypal_2", "payment_method_not_found"),
        ("#W1", "gift_card_1", "same_payment_method"),
        ("#W3", "gift_card_1", "gift_card_short_order"),
    ],
)
def test_a_change_of_payment_is_refused(db: Overlay, order_id: str, method: str, code: str) -> None:
    assert refused(db, "modify_pending_order_payment", order_id=order_id, payment_method_id=method) == code


def test_the_payment_changes_once_only(db: Overlay) -> None:
    call(db, "modify_pending_order_payment", order_id="#W1", payment_method_id="credit_card_1")
    assert (
        refused(db, "modify_pending_order_payment", order_id="#W1", payment_method_id="gift_card_1") == "not_exactly_one_payment"
    )


def modify(order_id: str, old: Any, new: Any, method: str) -> dict[str, Any]:
    return {"order_id": order_id, "item_ids": old, "new_item_ids": new, "payment_method_id": method}


def test_modified_items_are_other_variants_and_the_unrounded_difference_is_paid(db: Overlay) -> None:
    change = modify("#W1", ["7000000001", "8000000001"], ["7000000002", "8000000002"], "gift_card_1")
    order = call(db, "modify_pending_order_items", **change).value
    difference = (12.25 - 9.5) + (61.3 - 38.7)
    assert order["payment_history"][-1] == entry("payment", difference, "gift_card_1")
    assert order["status"] == "pending (item modified)"
    assert [(i["item_id"], i["price"], i["options"]) for i in order["items"]] == [
        ("7000000002", 12.25, {"color": "blue"}),
        ("8000000002", 61.3, {"size": "large"}),
    ]
    assert balance(db) == round(50 - difference, 2)
    assert refused(db, "modify_pending_order_address", order_id="#W1", **MOVED) == "order_not_pending_modify"


def test_no_items_at_all_are_a_modification_of_a_whole_number_of_dollars(db: Overlay) -> None:
    order = call(db, "modify_pending_order_items", **modify("#W3", [], [], "credit_card_1")).value
    assert order["payment_history"][-1] == entry("refund", 0, "credit_card_1")
    assert type(order["payment_history"][-1]["amount"]) is int


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (modify("#W9", [], [], "x"), "order_not_found"),
        (modify("#W2", [], [], "x"), "order_not_pending_modify"),
        (modify("#W1", ["7000000002"], [], "x"), "item_not_found"),
        (modify("#W1", ["7000000001", "7000000001"], ["7000000002"], "x"), "item_not_found"),
        (modify("#W1", ["7000000001"], [], "x"), "item_count_mismatch"),
        (modify("#W1", ["7000000001"], ["8000000002"], "x"), "new_item_unavailable"),
        (modify("#W1", ["7000000001"], ["7000000003"], "x"), "new_item_unavailable"),
        (modify("#W1", ["7000000001"], ["7000000002"], "x"), "payment_method_not_found"),
        (modify("#W1", ["7000000001"], ["7000000004"], "gift_card_1"), "gift_card_short_modify"),
    ],
)
def test_a_modification_is_refused_for_the_first_thing_that_is_wrong(db: Overlay, change: dict[str, Any], code: str) -> None:
    assert refused(db, "modify_pending_order_items", **change) == code


def test_an_exchange_is_noted_and_moves_nothing(db: Overlay) -> None:
    old, new = ["7000000001", "7000000001"], ["7000000004", "7000000002"]
    before = record(db, "orders", "#W2")
    order = call(db, "exchange_delivered_order_items", **modify("#W2", old, new, "credit_card_1")).value
    assert order["status"] == "exchange requested"
    assert order["exchange_new_items"] == ["7000000002", "7000000004"]
    assert order["exchange_price_difference"] == 113.25
    assert (order["items"], order["payment_history"]) == (before["items"], before["payment_history"])
    again = modify("#W2", old, new, "credit_card_1")
    assert refused(db, "exchange_delivered_order_items", **again) == "order_not_delivered_exchange"


def test_an_exchange_with_a_gift_card_that_does_not_cover_it_is_refused(db: Overlay) -> None:
    change = modify("#W2", ["7000000001"], ["7000000004"], "gift_card_1")
    assert refused(db, "exchange_delivered_order_items", **change) == "gift_card_short_exchange"


def test_a_return_goes_to_the_first_method_or_a_gift_card(db: Overlay) -> None:
    order = call(
        db, "return_delivered_order_items", order_id="#W2", item_ids=["7000000001"], payment_method_id="gift_card_1"
    ).value
    assert (order["status"], order["return_items"]) == ("return requested", ["7000000001"])
    assert balance(db) == 50


@pytest.mark.parametrize(
    ("order_id", "items", "method", "code"),
    [
        ("#W9", ["x"], "x", "order_not_found"),
        ("#W1", ["x"], "x", "order_not_delivered_return"),
        ("#W4", ["x"], "x", "payment_method_not_found"),
        ("#W4", ["x"], "credit_card_2", "payment_method_not_original_or_gift"),
        ("#W4", ["x"], "paypal_2", "return_item_not_found"),
        ("#W4", ["7000000002"] * 2, "paypal_2", "return_item_not_found"),
    ],
)
def test_a_return_checks_the_payment_before_the_items(
    db: Overlay, order_id: str, items: list[str], method: str, code: str
) -> None:
    assert refused(db, "return_delivered_order_items", order_id=order_id, item_ids=items, payment_method_id=method) == code


def test_the_same_address_again_leaves_the_database_equal(db: Overlay) -> None:
    address = record(db, "users", "ben_okoro_2222")["address"]
    assert call(db, "modify_user_address", user_id="ben_okoro_2222", **address).ok
    assert database.equal(db, shop())
    assert refused(db, "modify_user_address", user_id="nobody", **MOVED) == "user_not_found"
