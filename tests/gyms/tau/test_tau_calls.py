"""Arguments that do not fit are refused without effect; the calculator computes and runs nothing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny_bench import airline, call, refused, shop
from userrl.gyms.tau import database, texts, tools
from userrl.gyms.tau.tools.calculator import ALLOWED, MAX_LENGTH, Incalculable, value_of
from userrl.gyms.tau.tools.common import Result, Tool, perform, tools_of

PLACE = {"address1": "1", "address2": "", "city": "c", "state": "s", "country": "u", "zip": "z"}


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("think", {}, "py_missing_argument"),
        ("think", {"thought": "x", "note": "y"}, "py_unexpected_argument"),
        ("think", {"note": "y"}, "py_unexpected_argument"),
        ("modify_user_address", {**PLACE}, "py_missing_argument"),
        ("refund", {}, "unknown_action"),
        ("", {}, "unknown_action"),
        ("Think", {"thought": "x"}, "unknown_action"),
        ("book_reservation", {}, "unknown_action"),
    ],
)
def test_missing_and_further_arguments_and_unknown_tools_are_refused(name: str, arguments: dict[str, Any], code: str) -> None:
    assert refused(shop(), name, **arguments) == code


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("get_order_details", {"order_id": 1}, "order_not_found"),
        ("get_order_details", {"order_id": None}, "order_not_found"),
        ("get_order_details", {"order_id": ["#W1"]}, "py_exception"),
        ("find_user_id_by_email", {"email": 5}, "py_exception"),
        ("find_user_id_by_name_zip", {"first_name": "Ada", "last_name": "Voss", "zip": 97001}, "user_not_found"),
        ("find_user_id_by_name_zip", {"first_name": "Zed", "last_name": 5, "zip": "1"}, "user_not_found"),
        ("find_user_id_by_name_zip", {"first_name": "Ada", "last_name": 5, "zip": "1"}, "py_exception"),
        ("cancel_pending_order", {"order_id": "#W1", "reason": ["no longer needed"]}, "invalid_reason"),
        ("calculate", {"expression": None}, "py_exception"),
        ("calculate", {"expression": ["a"]}, "calc_invalid_characters"),
    ],
)
def test_an_argument_of_a_wrong_kind_is_sought_in_vain_or_refused_as_the_original_does(
    name: str, arguments: dict[str, Any], code: str
) -> None:
    assert refused(shop(), name, **arguments) == code


@pytest.mark.parametrize(
    ("items", "code"),
    [
        (None, "py_exception"),
        (7, "py_exception"),
        (["7000000001", {}], "item_not_found"),
        ([["7000000001"]], "item_not_found"),
        ({"7000000001": 1}, "py_exception"),
    ],
)
def test_items_that_are_no_list_of_ids_change_nothing(items: Any, code: str) -> None:
    change = {"order_id": "#W1", "item_ids": items, "new_item_ids": items, "payment_method_id": "gift_card_1"}
    assert refused(shop(), "modify_pending_order_items", **change) == code


def test_what_comes_first_is_checked_first_also_among_arguments_of_a_wrong_kind() -> None:
    place = {"origin": "SFO", "destination": "BOS", "flight_type": "one_way", "cabin": "economy", "insurance": "no"}
    bags = {"total_baggages": 0, "nonfree_baggages": 0}
    booking = {"user_id": "cy_lund_3333", **place, **bags, "passengers": None, "payment_methods": None}
    for number, code in (("HAT999", "flight_not_found"), ("HAT901", "py_exception")):
        flights = [{"flight_number": number, "date": "2024-05-20"}]
        assert refused(airline(), "book_reservation", **booking, flights=flights) == code


def test_a_text_in_the_place_of_a_list_is_read_letter_by_letter_as_in_the_original() -> None:
    change = {"order_id": "#W2", "item_ids": "7000000001", "new_item_ids": "7000000001", "payment_method_id": "credit_card_1"}
    result = call(shop(), "exchange_delivered_order_items", **change)
    assert (result.code, result.slots) == ("item_not_found", {"item_id": "7"})


@pytest.mark.parametrize("total", ["two", 2.0, True, None])
def test_a_number_of_bags_is_stored_whatever_it_is_as_in_the_original(total: Any) -> None:
    db = airline()
    change = {"reservation_id": "AAA111", "total_baggages": total, "nonfree_baggages": 0, "payment_id": "credit_card_3"}
    assert call(db, "update_reservation_baggages", **change).value["total_baggages"] is total
    assert refused(db, "update_reservation_baggages", **{**change, "nonfree_baggages": "two"}) == "py_exception"


def test_a_refusal_says_which_argument_is_wrong() -> None:
    result = call(
        airline(), "update_reservation_baggages", reservation_id="AAA111", total_baggages=1, nonfree_baggages="2", payment_id="x"
    )
    said = texts.render(result, {})
    assert said == "Error: the argument 'nonfree_baggages' of update_reservation_baggages is not of the kind it should be."


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KNOWN = st.sampled_from(
    ["#W1", "#W2", "AAA111", "BBB222", "ada_voss_1111", "cy_lund_3333", "gift_card_1", "gift_card_3", "7000000001", "economy"]
)
TOOLS = [(domain, name) for domain in tools.NAMES for name in tools.NAMES[domain]]


@given(st.sampled_from(TOOLS), st.data())
def test_no_argument_makes_a_tool_crash_and_a_refusal_changes_nothing(tool: tuple[str, str], data: st.DataObject) -> None:
    domain, name = tool
    legs = st.lists(
        st.fixed_dictionaries({"flight_number": st.just("HAT901") | JSON, "date": st.just("2024-05-20") | JSON}), max_size=2
    )
    arguments = {p: data.draw(KNOWN | JSON | legs, label=p) for p in tools.TOOLS[domain][name].kinds}
    db = shop() if domain == "retail" else airline()
    before = database.digest(db)
    result = call(db, name, **arguments)
    assert json.dumps(result.value)
    if not result.ok:
        assert database.digest(db) == before


@given(st.sampled_from(sorted(tools.NAMES)), st.data())
def test_no_arguments_on_record_make_a_later_call_crash(domain: str, data: st.DataObject) -> None:
    db = shop() if domain == "retail" else airline()
    for _ in range(4):
        name = data.draw(st.sampled_from(tools.NAMES[domain]))
        call(db, name, **{p: data.draw(KNOWN | JSON, label=p) for p in tools.TOOLS[domain][name].kinds})


def test_a_bug_of_a_tool_is_not_taken_for_a_bad_argument() -> None:
    def broken(db: database.Overlay, order_id: str) -> Result:
        db.edit("orders", order_id)["nothing"].append(order_id)
        return Result("ok")

    tool: Tool = tools_of((), (broken,))["broken"]
    with pytest.raises(KeyError):
        perform(tool, shop(), {"order_id": "#W1"})


def test_every_domain_has_its_tools_and_each_either_reads_or_writes() -> None:
    assert {domain: len(names) for domain, names in tools.NAMES.items()} == {"airline": 14, "retail": 16}
    assert len(tools.WRITES) == 6 + 7
    assert not tools.READS & tools.WRITES


# --- the calculator --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 + 2", "4.0"),
        ("1/3", "0.33"),
        ("-5", "-5.0"),
        ("--5", "5.0"),
        ("-2**2", "-4.0"),
        ("2**-1", "0.5"),
        ("2**3**2", "512.0"),
        ("7//2", "3.0"),
        ("-7//2", "-4.0"),
        ("2*(3+4)*5", "70.0"),
        ("10-4-3", "3.0"),
        ("100/10/2", "5.0"),
        (".5+5.", "5.5"),
        ("100 - 0.005", "100.0"),
        ("1.005*1000", "1005.0"),
        ("00", "0.0"),
        ("007.5", "7.5"),
        ("10**300/10**299", "10.0"),
        ("1**99999", "1.0"),
    ],
)
def test_the_calculator_computes_as_python_does(expression: str, value: str) -> None:
    assert value_of(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        *(
            "",
            " ",
            "(1",
            "1)",
            "()",
            "1 2",
            "1.2.3",
            "2(3)",
            "* 1",
            "1 +",
            "1 * * 2",
            "1 / / 2",
            "007",
            ".",
            "...",
            "5/0",
            "5//0",
        ),
        *("5//0", "0**-1", "(-8)**(1/3)", "10.0**400", "10**400", "9**9**9", "9**9**9**9"),
        *("(" * 200 + "1" + ")" * 200, "-" * 500 + "1", "1" * 3000),
    ],
)
def test_an_expression_without_a_value_is_refused_at_once(expression: str) -> None:
    with pytest.raises(Incalculable):
        value_of(expression)


@given(st.text(st.sampled_from("0123456789+-*/(). "), max_size=14))
def test_the_calculator_agrees_with_python_on_what_it_can_compute(expression: str) -> None:
    try:
        ours = value_of(expression)
    except Incalculable:
        return
    assert ours == str(round(float(eval(expression)), 2))


@pytest.mark.parametrize("expression", ["9**2000*" * 200 + "1", "(9**2000)**9", "1+" * MAX_LENGTH])
def test_what_would_take_long_is_not_begun(expression: str) -> None:
    with pytest.raises(Incalculable, match=r"too large|characters long"):
        value_of(expression)


@pytest.mark.parametrize("expression", ["1e3", "1,000+1", "$5", "abs(1)", "__import__('os')", "1_000", "2%2", "\u0663"])
def test_other_characters_are_refused(expression: str) -> None:
    assert refused(shop(), "calculate", expression=expression) == "calc_invalid_characters"
    assert set(ALLOWED) >= set("0123456789")
