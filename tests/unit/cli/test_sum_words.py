from oathbound.cli.words import privacy_words, sum_words
from oathbound.evidence.keys import Secret
from oathbound.testing.consortium import policy_for

SECRETS = [Secret.generate(name) for name in ("coordinator", "north", "east", "south")]


def test_the_aggregator_is_said_with_the_numbers_that_it_rests_on():
    said = "secure-sum: the coordinator sees sums over at least"
    assert sum_words(policy_for(SECRETS, min_sites=2)) == f"{said} 2 sites"
    colluding = policy_for(SECRETS, min_sites=3, colluding=1)
    assert sum_words(colluding) == f"{said} 3 sites, with up to 1 of them colluding"


def test_the_budget_says_at_how_many_sites_one_person_may_be():
    budget = policy_for(SECRETS).budget
    assert privacy_words(budget).endswith("per patient, add-remove")
    several = budget.model_copy(update={"sites_per_patient": 3})
    assert privacy_words(several).endswith("per patient of up to 3 sites, add-remove")
