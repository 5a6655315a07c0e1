"""The official UserRL data: in which files it comes, and how much of it there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

REPOSITORY = "github.com/SalesforceAIResearch/UserRL"
LICENSE = "Apache-2.0 (UserRL)"
SPLITS = ("official-train", "official-test", "official-alltrain", "official-alltest")
"""A gym's own two files, and its rows in the two merged ones, which the paper trained on and chose checkpoints by."""

_FAMILIES = {"22": 671, "33": 576, "44": 446, "233": 402, "333": 353, "334": 313, "444": 248, "2222": 113}
"""Travel's files in the order in which they were merged, and how many tasks each holds."""


@dataclass(frozen=True)
class Source:
    """Where the repository keeps the tasks of one gym."""

    name: str
    """The repository's name of the gym."""
    key: str
    """The field by which the splits name a task."""
    files: tuple[tuple[str, str], ...]
    """(path in an extracted folder, path in a checkout) of each file."""
    sizes: tuple[int, ...]
    """Official number of entries of each file; 0 where it is not known."""
    parquet: str
    """Folder of its splits."""
    train: int
    test: int
    stand_alone: bool = False
    """Whether each file holds whole tasks, so that those of some files can be played without the others."""
    examples: tuple[str, ...] = ()
    """Paths of further files of whole tasks, which are in no split."""
    index: str = ""
    """Path of a list of all its tasks, by which files and splits are checked."""


SOURCES: Mapping[str, Source] = {
    "travel": Source(
        "TravelGym",
        "id",
        tuple((f"data/travelgym_data_{n}.json", f"gyms/TravelGym/travelgym/data/travelgym_data_{n}.json") for n in _FAMILIES),
        tuple(_FAMILIES.values()),
        "travel_multiturn_onechoice",
        2107,
        471,
        stand_alone=True,
        examples=tuple(f"travel_example/travelgym_data_{n}.json" for n in _FAMILIES),
        index="data/travel_tasks_index.json.gz",
    ),
    "turtle": Source(
        "TurtleGym",
        "new_title",
        (("data/turtle_stories.json", "gyms/TurtleGym/turtlegym/data/all_stories_refined.json"),),
        (471,),
        "turtle_multiturn",
        423,
        48,
    ),
    "function": Source(
        "FunctionGym",
        "id",
        (("data/functions.json", "gyms/FunctionGym/functiongym/data/functions.json"),),
        (538,),
        "function_multiturn",
        460,
        78,
    ),
    "tau": Source(
        "TauGym",
        "id",
        (
            ("data/tau_train.json", "gyms/TauGym/taugym/data/tau_train.json"),
            ("data/tau_test.json", "gyms/TauGym/taugym/data/tau_test.json"),
        ),
        (500, 165),
        "tau_multiturn",
        500,
        165,
    ),
    "persuade": Source(
        "PersuadeGym",
        "id",
        (("data/persuasion_statements.json", "gyms/PersuadeGym/persuadegym/data/all_statements_refined.json"),),
        (0,),
        "persuasion_multiturn",
        378,
        42,
    ),
    "intention": Source(
        "IntentionGym",
        "id",
        (
            ("data/intentions_train.json", "gyms/IntentionGym/intentiongym/data/all_intentions_refined.json"),
            ("data/intentions_test.json", "gyms/IntentionGym/intentiongym/data/all_intentions_test.json"),
        ),
        (1012, 95),
        "intention_multiturn",
        380,
        40,
    ),
    "telepathy": Source(
        "TelepathyGym",
        "title",
        (("data/telepathy_entities.json", "gyms/TelepathyGym/telepathygym/data/all_entities_refined.json"),),
        (401,),
        "telepathy_multiturn",
        360,
        41,
    ),
    "search": Source(
        "SearchGym",
        "id",
        (("data/bamboogle_questions.json", "gyms/SearchGym/searchgym/data/questions.json"),),
        (125,),
        "bamboogle_multiturn",
        0,
        125,
    ),
}
