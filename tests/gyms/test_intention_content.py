"""The details and domains of the intention gym, as people and models read them."""

from __future__ import annotations

import re
from collections import Counter
from importlib import resources
from itertools import combinations
from string import Formatter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from userrl.gyms.intention.generate import OPENINGS, details, domains, lexicons
from userrl.gyms.intention.lexicon import mentioned

DETAILS, DOMAINS = details(), domains()
LIKELY = {3: (0.85, 0.95), 2: (0.5, 0.7), 1: (0.3, 0.5)}
"""Importance of a detail -> how often it may be missing, lowest and highest."""
HEAD_ENDS_BEFORE = re.compile(r" (?:about|after|against|at|behind|by|for|from|in|near|of|on|over|to|under|with)\b")

every_detail = pytest.mark.parametrize("kind", DETAILS)
every_domain = pytest.mark.parametrize("key", DOMAINS)


def fields(template: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(template) if name is not None]


def kinds(key: str, importance: int | None = None) -> set[str]:
    """The detail types of a domain, of one importance if given."""
    return {spec["type"] for spec in DOMAINS[key]["detail"] if importance in (None, spec["importance"])}


def head(subject: str) -> str:
    """The head noun of a noun phrase: the last word before its first preposition."""
    return HEAD_ENDS_BEFORE.split(subject, maxsplit=1)[0].split()[-1].lower()


def openings(key: str) -> list[str]:
    templates = (*OPENINGS, *DOMAINS[key]["openings"])
    return [template.format(subject=subject) for template in templates for subject in DOMAINS[key]["subjects"]]


def repeated(items: list[str]) -> list[str]:
    return sorted(item for item, count in Counter(items).items() if count > 1)


def test_there_are_fifteen_domains_with_clinic_intake_and_legal_advice() -> None:
    assert len(DOMAINS) == 15
    assert {"clinic_intake", "legal_advice"} <= DOMAINS.keys()


@pytest.mark.parametrize("name", ["details.toml", "domains.toml"])
def test_content_files_are_ascii(name: str) -> None:
    text = resources.files("userrl.gyms.intention").joinpath("content", name).read_text("utf-8")
    assert not (odd := sorted({c for c in text if not c.isascii()})), f"{name} holds {odd}; write plain ASCII."


def test_names_of_details_and_titles_of_domains_are_unique() -> None:
    assert not (twice := repeated([d["name"] for d in DETAILS.values()])), f"Details share the names {twice}."
    assert not (twice := repeated([d["title"] for d in DOMAINS.values()])), f"Domains share the titles {twice}."


# --- details -----------------------------------------------------------------------------------------------------


@every_detail
def test_a_detail_has_the_agreed_fields_and_counts(kind: str) -> None:
    detail = DETAILS[kind]
    assert detail.keys() == {"name", "lexicon", "questions"}, f"{kind} has the fields {sorted(detail)}."
    assert 3 <= len(detail["lexicon"]) <= 6, f"{kind} has {len(detail['lexicon'])} lexicon phrases; expected 3 to 6."
    assert 3 <= len(detail["questions"]) <= 4, f"{kind} has {len(detail['questions'])} questions; expected 3 or 4."
    assert not (twice := repeated([*detail["lexicon"], *detail["questions"]])), f"{kind} repeats {twice}."


@every_detail
def test_a_question_is_short_and_about_its_own_detail_only(kind: str) -> None:
    for question in (*DETAILS[kind]["questions"], f"What about the {DETAILS[kind]['name']}?"):
        assert question.endswith("?"), f"{kind}: {question!r} is no question."
        assert len(question.split()) <= 8, f"{kind}: {question!r} has more than 8 words."
        assert mentioned(question, lexicons()) == [kind], f"{kind}: {question!r} is about {mentioned(question, lexicons())}."


@every_detail
def test_a_lexicon_phrase_holds_no_phrase_of_another_detail(kind: str) -> None:
    for phrase in DETAILS[kind]["lexicon"]:
        assert phrase == phrase.lower().strip(), f"{kind}: write {phrase!r} in lower case, without spaces around it."
        assert mentioned(phrase, lexicons()) == [kind], f"{kind}: {phrase!r} also names {mentioned(phrase, lexicons())}."


@every_detail
def test_a_detail_is_used_in_one_to_five_domains(kind: str) -> None:
    users = [key for key in DOMAINS if kind in kinds(key)]
    assert 1 <= len(users) <= 5, f"{kind} is used in {users}; expected 1 to 5 domains."


def test_most_details_are_shared_between_domains() -> None:
    uses = Counter(kind for key in DOMAINS for kind in kinds(key))
    single = sorted(kind for kind, count in uses.items() if count == 1)
    assert len(single) <= len(DETAILS) // 4, f"Used in one domain only: {single}."


# --- domains -----------------------------------------------------------------------------------------------------


@every_domain
def test_a_domain_has_the_agreed_fields_and_counts(key: str) -> None:
    domain = DOMAINS[key]
    assert domain.keys() == {"key", "title", "subjects", "openings", "detail"}, f"{key} has the fields {sorted(domain)}."
    assert len(domain["subjects"]) == 24, f"{key} has {len(domain['subjects'])} subjects; expected 24."
    assert len(domain["openings"]) == 8, f"{key} has {len(domain['openings'])} openings; expected 8."
    by_importance = Counter(spec["importance"] for spec in domain["detail"])
    assert by_importance.keys() == {1, 2, 3}, f"{key} has details of the importances {sorted(by_importance)}."
    assert by_importance[3] == by_importance[2] == 3, f"{key}: expected three details each of importance 3 and 2."
    assert by_importance[1] in (2, 3), f"{key} has {by_importance[1]} details of importance 1; expected two or three."


@every_domain
def test_details_of_a_domain_exist_once_and_are_missing_as_often_as_their_importance_says(key: str) -> None:
    specs: list[dict[str, Any]] = DOMAINS[key]["detail"]
    assert not (unknown := kinds(key) - DETAILS.keys()), f"{key}: no detail types {sorted(unknown)} in details.toml."
    assert not (twice := repeated([spec["type"] for spec in specs])), f"{key} lists {twice} more than once."
    for spec in specs:
        low, high = LIKELY[spec["importance"]]
        assert low <= spec["likely"] <= high, f"{key}, {spec['type']}: likely is {spec['likely']}; expected {low} to {high}."


@every_domain
def test_options_are_short_and_render_in_answer_and_stated_clause(key: str) -> None:
    for spec in DOMAINS[key]["detail"]:
        where, options = f"{key}, {spec['type']}", spec["options"]
        assert spec.keys() == {"type", "importance", "likely", "options", "answer", "stated"}, f"{where}: {sorted(spec)}."
        assert 4 <= len(options) <= 6, f"{where}: {len(options)} options; expected 4 to 6."
        assert not (twice := repeated(options)), f"{where} repeats {twice}."
        for option in options:
            assert 1 <= len(option.split()) <= 5, f"{where}: {option!r} should have 1 to 5 words."
            assert not set(option) & set("{}.?!"), f"{where}: {option!r} should be a bare phrase."
            answer = spec["answer"].format(option=option)
            assert option in answer and len(answer.split()) <= 12, f"{where}: {answer!r} lacks the option or is too long."
            assert not re.search(r"\ba [aeio]", answer + spec["stated"].format(option=option)), f"{where}: 'a' before a vowel."
        assert fields(spec["answer"]) == fields(spec["stated"]) == ["option"], f"{where}: expected exactly one {{option}} each."
        assert re.match(r"[A-Z].*\.$", spec["answer"]), f"{where}: the answer is no plain sentence: {spec['answer']!r}."
        # The generator appends clauses to the opening and joins several of them by "and".
        assert re.match(r"(?!and )[a-z].*[a-z}]$", spec["stated"]), f"{where}: not a bare clause: {spec['stated']!r}."


@every_domain
def test_answers_name_no_other_detail(key: str) -> None:
    for spec in DOMAINS[key]["detail"]:
        for option in spec["options"]:
            answer = spec["answer"].format(option=option)
            others = set(mentioned(answer, lexicons())) - {spec["type"]}
            assert not others, f"{key}, {spec['type']}: {answer!r} names {sorted(others)}."


@every_domain
def test_a_stated_clause_names_its_own_detail_and_no_other(key: str) -> None:
    """So the scripted expert, and a model that learns from it, can see what was said up front."""
    for spec in DOMAINS[key]["detail"]:
        for option in spec["options"]:
            clause = spec["stated"].format(option=option)
            named = mentioned(clause, lexicons())
            assert named == [spec["type"]], f"{key}: {clause!r} should name {spec['type']} only, but names {named}."


@every_domain
def test_openings_are_plain_distinct_and_name_no_detail(key: str) -> None:
    for template in DOMAINS[key]["openings"]:
        assert fields(template) == ["subject"], f"{key}: {template!r} should hold exactly one {{subject}}."
        assert re.match(r"[A-Z][^.?!]*[.?]$", template), f"{key}: {template!r} should be one sentence."
        assert len(template.split()) <= 10, f"{key}: {template!r} has more than 10 words."
    texts = openings(key)
    assert not (twice := repeated(texts)), f"{key} makes these openings twice: {twice[:3]}."
    assert len(texts) >= 500, f"{key} makes {len(texts)} openings; expected at least 500."
    for text in texts:
        assert not (named := mentioned(text, lexicons())), f"{key}: {text!r} names {named}, as if it were stated."


@every_domain
def test_subjects_are_short_noun_phrases_with_varied_heads(key: str) -> None:
    subjects = DOMAINS[key]["subjects"]
    for subject in subjects:
        assert 2 <= len(subject.split()) <= 6, f"{key}: {subject!r} should have 2 to 6 words."
        assert subject[0].islower() and subject[-1].isalpha(), f"{key}: {subject!r} should be a bare noun phrase."
    heads = {head(subject) for subject in subjects}
    assert len(heads) >= 6, f"{key} has only the heads {sorted(heads)}; expected at least 6."


def test_no_subject_occurs_twice() -> None:
    assert not (twice := repeated([subject for d in DOMAINS.values() for subject in d["subjects"]])), f"Repeated: {twice}."


@pytest.mark.parametrize(("one", "other"), list(combinations(DOMAINS, 2)))
def test_two_domains_differ_in_heads_and_details(one: str, other: str) -> None:
    heads = [{head(subject) for subject in DOMAINS[key]["subjects"]} for key in (one, other)]
    assert not (both := heads[0] & heads[1]), f"{one} and {other} share the head nouns {sorted(both)}."
    assert kinds(one, 3) != kinds(other, 3), f"{one} and {other} must know the same details."
    shared = kinds(one) & kinds(other)
    assert len(shared) <= 4, f"{one} and {other} share {len(shared)} details: {sorted(shared)}; expected at most 4."


@every_domain
def test_only_the_own_domain_has_its_subject_in_an_opening(key: str) -> None:
    foreign = [subject for other in DOMAINS if other != key for subject in DOMAINS[other]["subjects"]]
    for text in openings(key):
        assert not mentioned(text, {key: foreign}), f"{key}: {text!r} names a subject of another domain."


def test_clauses_and_plurals_do_not_hide_the_head_of_a_subject() -> None:
    assert head("a farewell party for a colleague") == "party"
    assert head("leg exercises") == "exercises"


# --- phrases in a text -----------------------------------------------------------------------------------------------

PHRASES = ["how many", "many", "when", "c++", "'s", "is", "kiss", "straße", "istanbul", "_a_", "à la carte", " to "]
PIECES = [*PHRASES, *"iıİIsSſßẞkK_ -'+é?", "MANY", "STRASSE", "How", "\n", "\u0301"]


@settings(deadline=None, max_examples=500)
@given(st.lists(st.sampled_from(PIECES), max_size=8), st.sampled_from(["", " ", "-"]))
def test_phrases_are_found_in_a_text_just_as_a_pattern_for_each_of_them_finds_them(pieces: list[str], between: str) -> None:
    text = between.join(pieces)
    wanted = {phrase: [phrase] for phrase in PHRASES} | {"all": PHRASES, "none": []}
    first = {}
    for key, phrases in wanted.items():
        longest_first = sorted(phrases, key=len, reverse=True)
        if phrases and (match := re.search(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b", text, re.IGNORECASE)):
            first[key] = match.start()
    assert mentioned(text, wanted) == sorted(first, key=lambda key: first[key])
