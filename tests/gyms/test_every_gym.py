"""What every registered gym promises, played and checked."""

import pytest

from userrl.evaluate.conformance import assert_conforms
from userrl.gyms.base import known


@pytest.mark.parametrize("name", sorted(known()))
def test_the_gym_keeps_the_promises_of_every_gym(name: str) -> None:
    report = assert_conforms(name)
    assert report.turns > report.episodes > report.tasks > 0
