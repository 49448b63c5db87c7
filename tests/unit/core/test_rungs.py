"""A ladder goes up: an attacker who knows a person's age and sex does not then know less."""

import pytest

from oathbound.core.errors import WrongInput
from oathbound.core.rungs import ladder_of


@pytest.mark.parametrize("further", [(), ("codes-1",)])
def test_nothing_stands_below_age_and_sex(further):
    assert [rung.person for rung in ladder_of(("nothing", "age-and-sex", *further), 1)][:2] == [False, True]
    with pytest.raises(WrongInput, match="nothing does not know all that age-and-sex knows"):
        ladder_of(("age-and-sex", "nothing", *further), 1)
