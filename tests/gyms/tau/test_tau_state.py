"""Databases that are shared and never changed, their hash, and the state that follows from the calls made."""

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny_bench import FOLDER, airline, call, record, shop
from userrl.errors import DataError, UnknownName
from userrl.gyms.tau import database, source, state
from userrl.gyms.tau.database import Base, Overlay

CANCEL = ("cancel_pending_order", {"order_id": "#W1", "reason": "no longer needed"})
PAY = ("modify_pending_order_payment", {"order_id": "#W1", "payment_method_id": "credit_card_1"})
READ = ("get_order_details", {"order_id": "#W1"})


def plain(value: Any) -> Any:
    """tau-bench's nested tuples, written down from its description."""
    if isinstance(value, Mapping):
        return tuple((key, plain(item)) for key, item in sorted(value.items()))
    return tuple(plain(item) for item in value) if isinstance(value, list) else value


def plain_hash(tables: Any) -> str:
    return hashlib.sha256(str(plain(tables)).encode("utf-8")).hexdigest()


def whole(db: Overlay) -> dict[str, dict[str, Any]]:
    return {table: dict(db.rows(table)) for table in db.base.tables}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_the_text_of_a_value_is_that_of_nested_tuples(value: Any) -> None:
    assert database.text(value) == (repr(value) if isinstance(value, str) else str(plain(value)))


@given(
    st.dictionaries(st.text(min_size=1, max_size=2), st.dictionaries(st.text(max_size=2), VALUES, min_size=1, max_size=2)), VALUES
)
def test_the_hash_of_a_database_is_the_original_one_however_small_it_is(rows: dict[str, Any], value: Any) -> None:
    db = Overlay(Base("b", "retail", {"orders": rows, "products": {}, "users": {"u": {"x": value}}}))
    assert database.digest(db) == plain_hash(whole(db))


def test_the_hash_follows_edits_and_additions() -> None:
    for db, name, arguments in (
        (shop(), *CANCEL),
        (airline(), "send_certificate", {"user_id": "cy_lund_3333", "amount": 7}),
        (airline(), "cancel_reservation", {"reservation_id": "BBB222"}),
    ):
        before = database.digest(db)
        assert before == plain_hash(whole(db))
        assert call(db, name, **arguments).ok
        assert database.digest(db) == plain_hash(whole(db)) != before


@pytest.mark.parametrize(
    ("one", "other"), [(100, 100.0), (1, True), (0, False), (0, -0.0), (None, "None"), ([1, 2], [2, 1]), ([], {"": 0})]
)
def test_values_of_other_types_and_lists_in_another_order_are_not_equal(one: Any, other: Any) -> None:
    db, changed = shop(), shop()
    db.edit("orders", "#W1")["x"] = one
    changed.edit("orders", "#W1")["x"] = other
    assert not database.equal(db, changed)
    assert database.digest(db) != database.digest(changed)


def test_keys_in_another_order_and_an_edit_that_was_undone_are_equal() -> None:
    db = shop()
    order = db.edit("orders", "#W1")
    order["status"] = order.pop("status")
    assert database.equal(db, shop())
    assert database.digest(db) == database.digest(shop())


@given(VALUES, VALUES)
def test_records_are_equal_just_when_their_databases_have_the_same_hash(one: Any, other: Any) -> None:
    db, changed = shop(), shop()
    db.edit("users", "ben_okoro_2222")["x"] = one
    changed.edit("users", "ben_okoro_2222")["x"] = other
    assert database.equal(db, changed) == (database.digest(db) == database.digest(changed))


def test_views_of_two_databases_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="expected one base"):
        database.equal(shop(), airline())


def test_an_edit_is_seen_in_no_other_view_and_not_in_the_base() -> None:
    db = shop()
    before = pickle.dumps(db.base.tables)
    fork = db.fork()
    fork.edit("orders", "#W1")["items"][0]["price"] = 1
    later = fork.fork()
    later.edit("orders", "#W1")["items"][0]["price"] = 2
    assert [record(view, "orders", "#W1")["items"][0]["price"] for view in (db, fork, later)] == [9.5, 1, 2]
    assert fork.edit("orders", "#W1") is fork.edit("orders", "#W1")
    assert pickle.dumps(db.base.tables) == before


def test_what_a_call_returned_does_not_change_with_later_calls() -> None:
    db = airline()
    first = call(db, "cancel_reservation", reservation_id="AAA111")
    kept = json.dumps(first.value)
    call(db, "cancel_reservation", reservation_id="AAA111")
    assert json.dumps(first.value) == kept


def test_rows_come_in_the_order_of_the_file_with_changes_in_place_and_new_ones_last() -> None:
    db = airline()
    db.put("reservations", "NEW000", {"status": "new"})
    db.edit("reservations", "AAA111")["status"] = "x"
    assert [key for key, _ in db.rows("reservations")] == ["AAA111", "BBB222", "NEW000"]
    assert dict(db.rows("reservations"))["AAA111"]["status"] == "x"
    assert db.changed().keys() == {("reservations", "NEW000"), ("reservations", "AAA111")}
    with pytest.raises(KeyError):
        db.edit("reservations", "ZZZ999")


# --- replay ----------------------------------------------------------------------------------------------------


def test_a_replay_is_what_the_calls_come_to_one_after_the_other() -> None:
    db = shop()
    for name, arguments in (PAY, CANCEL):
        call(db, name, **arguments)
    assert database.equal(state.replay(db.base, [READ, PAY, READ, CANCEL]), db)
    assert not database.equal(state.replay(db.base, [CANCEL, PAY]), db)
    assert database.equal(state.replay(db.base, []), shop())


def test_a_replay_is_a_view_of_its_own() -> None:
    base = shop().base
    state.replay(base, [PAY]).edit("orders", "#W1")["status"] = "spoiled"
    assert record(state.replay(base, [PAY]), "orders", "#W1")["status"] == "pending"
    assert record(state.replay(base, [PAY, CANCEL]), "orders", "#W1")["status"] == "cancelled"


def test_a_further_call_costs_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    base = Base("fresh", "retail", shop().base.tables)
    made: list[str] = []
    real = state.tools.call
    monkeypatch.setattr(state.tools, "call", lambda *args: made.append(args[2]) or real(*args))
    address = {"address1": "", "address2": "", "city": "", "state": "", "country": "", "zip": ""}
    calls = [("modify_user_address", {"user_id": "ada_voss_1111", **address, "zip": str(n)}) for n in range(10)]
    for length in range(1, 11):
        state.replay(base, calls[:length])
    assert len(made) == 10
    state.replay(base, [*calls[:5], PAY])
    assert len(made) == 11


def test_calls_that_fail_are_replayed_too_and_unknown_ones_do_nothing() -> None:
    base = airline().base
    twice = [{"payment_id": "certificate_3", "amount": amount} for amount in (100, 0)]
    booking = {
        "user_id": "cy_lund_3333",
        "origin": "SFO",
        "destination": "DEN",
        "flight_type": "one_way",
        "cabin": "economy",
        "flights": [{"flight_number": "HAT901", "date": "2024-05-20"}],
        "passengers": [{}],
        "payment_methods": twice,
        "total_baggages": 0,
        "nonfree_baggages": 0,
        "insurance": "no",
    }
    assert (
        "certificate_3"
        not in record(state.replay(base, [("book_reservation", booking)]), "users", "cy_lund_3333")["payment_methods"]
    )
    assert database.equal(state.replay(base, [("fly", {}), ("cancel_pending_order", {}), ("cancel_reservation", {})]), airline())


# --- loading ---------------------------------------------------------------------------------------------------


def test_an_unknown_database_names_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="official/retail"):
        database.load("official/retial")


def test_an_official_database_that_was_not_imported_says_how_to_import_it() -> None:
    with pytest.raises(DataError, match="userrl data import tau-bench PATH"):
        database.load("official/retail")


def test_a_database_is_read_once() -> None:
    assert database.load("official/retail", str(FOLDER)) is shop().base


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read as JSON"),
        ("[]", "holds no JSON object"),
        ('{"#W1": {"order_id": "#W1"}}', "record '#W1': lacks 'address'"),
        ('{"#W1": 1}', "record '#W1': lacks 'everything'"),
    ],
)
def test_a_broken_table_is_named(tmp_path: Path, content: str | None, problem: str) -> None:
    (tmp_path / "retail").mkdir()
    if content is not None:
        (tmp_path / "retail" / "orders.json").write_text(content, "utf-8")
    with pytest.raises(DataError, match=problem) as error:
        source.tables(tmp_path, "retail")
    assert str(tmp_path / "retail" / "orders.json") in str(error.value)
