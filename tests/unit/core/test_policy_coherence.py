"""A policy that parses is coherent: each contradiction between its keys is named."""

import pytest

from oathbound.core.errors import WrongInput
from oathbound.core.study import Policy
from oathbound.evidence.keys import Secret
from oathbound.testing.consortium import policy_for

SECRETS = [Secret.generate(name) for name in ("coordinator", "north", "east")]

BUDGET = policy_for(SECRETS).budget.plain()


def policy(**changes):
    return policy_for(SECRETS, **changes)


def test_a_site_is_found_by_its_name_and_nobody_else_is():
    assert policy().site("east").fingerprint == SECRETS[2].party().fingerprint
    assert policy().site("coordinator") is None


@pytest.mark.parametrize("window", [["-0.1", "1"], ["0", "1.1"], ["0.5", "0.5"], ["0.6", "0.5"]])
def test_a_window_is_part_of_everybody(window):
    with pytest.raises(WrongInput, match="window must be"):
        policy(drawing={"window": window, "held_out": "0.3", "reference": "0"})


def test_somebody_must_be_left_to_train_on():
    with pytest.raises(WrongInput, match="leave no members"):
        policy(drawing={"window": ["0", "1"], "held_out": "0.5", "reference": "0.5"})


def test_parties_are_distinct():
    members = policy().plain()["sites"]
    for key, of in (("name", 0), ("fingerprint", 0)):
        twin = {**members[1], key: members[of][key]}
        with pytest.raises(WrongInput, match=f"share a {key}"):
            policy(sites=[members[0], twin])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"min_sites": 3}, "min_sites is more"),
        ({"colluding": 1}, "must be at least 2"),
        ({"dishonest_witnesses": 1}, "dishonest_witnesses is too many"),
        ({"privacy": "none"}, "need each other"),
        ({"budget": None}, "need each other"),
        ({"budget": BUDGET | {"sites_per_patient": 3}}, "more than the sites listed"),
        ({"budget": BUDGET | {"sites_per_patient": 0}}, "sites_per_patient"),
        (
            {
                "gates": [
                    {"test": "membership", "metric": "auc", "at_most": "0.6"},
                    {"test": "membership", "metric": "auc", "at_most": "0.7"},
                ]
            },
            "two gates",
        ),
    ],
)
def test_a_contradiction_is_named(changes, said):
    with pytest.raises(WrongInput, match=said):
        policy(**changes)


def test_without_noise_every_sum_is_of_all_sites():
    secrets = [Secret.generate(name) for name in ("coordinator", "north", "east", "west")]
    assert policy_for(secrets, min_sites=2).min_sites == 2
    with pytest.raises(WrongInput, match="two sums that differ by one site"):
        policy_for(secrets, min_sites=2, privacy="none", budget=None)
    assert policy_for(secrets, min_sites=3, privacy="none", budget=None).budget is None


def local(privacy="none", rate="1", warmup=0, **changes):
    training = policy().training.plain() | {"learning_rate": rate, "warmup": warmup}
    training["local"] = {"algorithm": "fedavg", "steps": 5, "learning_rate": "0.1", **changes}
    kept = {"privacy": privacy} if privacy == "patient-dp" else {"privacy": privacy, "budget": None}
    return policy(training=training, **kept)


def test_local_steps_are_for_studies_that_bound_nothing():
    assert local().training.local.algorithm == "fedavg"
    assert local(algorithm="fedprox", proximal="0.1").training.local.takes_the_mean
    assert not local(algorithm="fedadam", rate="0.1", warmup=3).training.local.takes_the_mean
    assert "local" not in policy().plain()["training"], "digests of other studies stay what they were"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"privacy": "patient-dp"}, "training.local bounds nothing"),
        ({"rate": "0.01"}, 'fedavg takes the mean of the sites: learning_rate must be "1"'),
        ({"warmup": 1}, "warmup 0"),
        ({"algorithm": "fedprox", "proximal": "0.1", "rate": "0.01"}, "fedprox takes the mean"),
        ({"algorithm": "fedprox"}, "fedprox, and nothing else, needs proximal"),
        ({"proximal": "0.1"}, "fedprox, and nothing else, needs proximal"),
        ({"algorithm": "fedadam", "proximal": "0.1"}, "fedprox, and nothing else, needs proximal"),
        ({"algorithm": "fedprox", "proximal": "0"}, "greater than 0"),
        ({"algorithm": "fedprox", "proximal": "11"}, "each step would overshoot"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"algorithm": "scaffold"}, "fedavg"),
    ],
)
def test_a_local_training_that_cannot_be_is_refused(changes, said):
    with pytest.raises(WrongInput, match=said):
        local(**changes)


def test_a_policy_is_named_by_the_digest_of_all_of_it():
    assert Policy.parse(policy().plain(), what="policy").digest == policy().digest
    assert policy(purpose="Another").digest != policy().digest


VOCABULARY = {"codes": ["a", "b"], "edges": {}, "ages": [], "gaps": []}
FEATURES = {"present": ["a"], "numbers": [], "label": {"code": "b"}}
SEQUENCES = {"name": "event-transformer", "layers": 1, "width": 8, "heads": 1, "length": 8, "seed": 1}
ROWS = {"name": "logistic-regression"}
RECORDINGS = {"shape": [8, 8], "most": 2, "centre": "0", "scale": "1", "classes": ["a", "b"]}
BEATS = RECORDINGS | {"shape": [64]}
SCAN_NET = {"name": "scan-net", "widths": [4], "seed": 1}
BEAT_NET = {"name": "beat-net", "widths": [2], "activation": "gelu", "seed": 1}
KINDS = {
    "event-transformer": (SEQUENCES, {"vocabulary": VOCABULARY}),
    "logistic-regression": (ROWS, {"features": FEATURES}),
    "scan-net": (SCAN_NET, {"recordings": RECORDINGS}),
    "beat-net": (BEAT_NET, {"recordings": BEATS}),
}
NOTHING = {"vocabulary": None, "features": None, "recordings": None}
AUDIT = {"alpha": "0.05", "minimum_patients": 20}
SENSITIVE = {"name": "s", "codes": ["b"], "implied_by": [], "prompt_events": 1, "horizon": 1, "chains": 1}


@pytest.mark.parametrize("name", KINDS)
def test_a_model_sees_what_its_kind_sees(name):
    model, seen = KINDS[name]
    parsed = policy(model=model, **NOTHING | seen, audit=AUDIT)
    assert parsed.model.name == name
    ((listed, plain),) = seen.items()
    assert parsed.seen == getattr(parsed, listed)
    assert parsed.seen.plain() == type(parsed.seen).parse(plain, what="seen").plain()
    assert parsed.weights > 0


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("other", [*KINDS, None])
@pytest.mark.parametrize("both", [True, False])
def test_a_model_sees_nothing_else(name, other, both):
    model, seen = KINDS[name]
    listed = ({} if other is None else KINDS[other][1]) | (seen if both else {})
    if listed == seen:
        return
    with pytest.raises(WrongInput, match=r"sees (a vocabulary|features|recordings of .*), and nothing else"):
        policy(model=model, **NOTHING | listed, audit=AUDIT)


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        # 36 of the first convolution; 8 + 144 + 8 + 144 + 16 of the block; 8 of the norm; 10 of the head
        (SCAN_NET, 374),
        # (5 + 1) x 2 of the convolution; (2 x 32 + 1) x 2 of the head
        (BEAT_NET, 142),
        (BEAT_NET | {"widths": [2, 3]}, 12 + 33 + (3 * 16 + 1) * 2),
    ],
)
def test_a_policy_counts_the_weights_of_what_sees_recordings(model, weights):
    seen = RECORDINGS if model["name"] == "scan-net" else BEATS
    assert policy(model=model, **NOTHING | {"recordings": seen}, audit=AUDIT).weights == weights


@pytest.mark.parametrize("key", ["codes", "implied_by"])
def test_what_is_sensitive_is_in_the_vocabulary(key):
    with pytest.raises(WrongInput, match="a code that vocabulary does not list: c"):
        policy(audit=AUDIT | {"sensitive": SENSITIVE | {key: ["c"]}})


def test_a_classifier_says_no_codes_that_could_be_sensitive():
    with pytest.raises(WrongInput, match="for models of a vocabulary"):
        policy(model=ROWS, vocabulary=None, features=FEATURES, audit=AUDIT | {"sensitive": SENSITIVE})


def test_what_is_reconstructed_is_recordings_and_from_sums_of_gradients():
    attacked = AUDIT | {"reconstruction": {"targets": 100, "decoys": 19}}
    with pytest.raises(WrongInput, match="is for models of recordings"):
        policy(audit=attacked)
    scans = NOTHING | {"recordings": RECORDINGS, "model": SCAN_NET, "audit": attacked}
    linked = AUDIT | {"linkage": {"gallery": 50}}
    with pytest.raises(WrongInput, match=r"audit\.linkage is for models of recordings"):
        policy(audit=linked)
    assert policy(**scans | {"audit": linked}).audit.linkage.gallery == 50
    assert policy(**scans).audit.reconstruction.decoys == 19
    training = local().plain()["training"]
    free = {"privacy": "none", "budget": None, "min_sites": 2, "training": training}
    with pytest.raises(WrongInput, match=r"leave it out with training\.local"):
        policy(**scans, **free)


def test_a_model_from_elsewhere_is_named_with_its_code():
    with pytest.raises(WrongInput, match="extensions names none"):
        policy(model={"name": "oracle", "options": {}, "seed": 1}, audit=AUDIT)


@pytest.mark.parametrize("name", KINDS)
def test_a_model_from_elsewhere_sees_what_the_policy_lists(name):
    _, seen = KINDS[name]
    code = {"distribution": "oracle", "version": "1", "digest": "sha256:" + "0" * 64}
    model = {"name": "oracle", "options": {}, "seed": 1}
    parsed = policy(
        model=model, extensions=[{"group": "models", "name": "oracle", **code}], **NOTHING | seen, audit=AUDIT
    )
    assert parsed.model.name == "oracle"


def test_an_extension_is_found_by_its_group_and_its_name():
    code = {"distribution": "oracle", "version": "1", "digest": "sha256:" + "0" * 64}
    extensions = [
        {"group": "sources", "name": "oracle", **code},
        {"group": "sources", "name": "sibyl", **code},
        {"group": "audits", "name": "oracle", **code, "measures": {"auc": ["loss"]}},
    ]
    found = policy(extensions=extensions)
    assert found.extension("sources", "sibyl").name == "sibyl"
    assert found.extension("audits", "oracle").measures == {"auc": ("loss",)}
    assert found.extension("audits", "sibyl") is None
    assert found.extension("models", "oracle") is None


@pytest.mark.parametrize(("sites", "colluding", "least"), [(4, 0, 3), (5, 1, 4), (8, 2, 6)])
def test_no_two_sums_of_one_step_could_be_opened(sites, colluding, least):
    secrets = [Secret.generate(f"party-{number}") for number in range(sites + 1)]
    assert policy_for(secrets, min_sites=least, colluding=colluding).min_sites == least
    with pytest.raises(WrongInput, match=f"min_sites must be at least {least} for {sites} sites"):
        policy_for(secrets, min_sites=least - 1, colluding=colluding)


BANDS = {"bands": 20, "sampling_rate": "0.05", "steps": 20, "attempts": 20}


def banded(bands=BANDS, **changes):
    return policy(training={**policy().training.plain(), **bands}, **changes)


def test_a_policy_may_let_its_members_take_turns():
    assert banded().training.bands == 20
    assert "bands" not in policy().plain()["training"]
    assert banded().digest != banded({**BANDS, "bands": 10, "sampling_rate": "0.1"}).digest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampling_rate": "0.02"}, "must be exactly 1 / bands"),
        ({"bands": 3, "sampling_rate": "0.333333"}, "must be exactly 1 / bands"),
        ({"attempts": 21}, "no step can be tried twice"),
        ({"bands": 1, "sampling_rate": "1"}, "greater than or equal to 2"),
        ({"bands": 80, "sampling_rate": "0.0125"}, "less than or equal to 64"),
    ],
)
def test_turns_need_their_rate_and_one_attempt_a_step(changes, said):
    with pytest.raises(WrongInput, match=said):
        banded({**BANDS, **changes})


def test_turns_need_noise_and_every_site_in_every_sum():
    with pytest.raises(WrongInput, match="bands needs"):
        banded(privacy="none", budget=None)
    three = [Secret.generate(name) for name in ("coordinator", "north", "east", "west")]
    plain = {**policy().training.plain(), **BANDS}
    assert policy_for(three, min_sites=3, training=plain).min_sites == 3
    with pytest.raises(WrongInput, match="min_sites to be all sites"):
        policy_for(three, min_sites=2, training=plain)
