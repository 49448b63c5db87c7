"""The adapter of an endpoint against a real server on this machine: as it should be, and as it should not."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="audits are an extra")
pytest.importorskip("httpx", reason="endpoints need httpx")

from endpoint_server import LOGS, MAP, SIZE, asked, completed, drawn, people, serving, settings, text

from oathbound.audit.adapters.endpoint import open_endpoint
from oathbound.audit.coherence import check_coherent
from oathbound.audit.target import ScoringTarget, SequenceTarget, SteppingTarget, scoring, stepping
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.testing.contracts.targets import TargetContract

SECRET = "sk-never-to-be-seen"  # noqa: S105 - nobody's


class Kept(TargetContract):
    settings = settings()

    @pytest.fixture(autouse=True)
    def _served(self, tmp_path):
        with (
            serving() as model,
            open_endpoint(model.url, "m", MAP, self.settings, keep=tmp_path) as (self._target, _),
        ):
            yield

    def target(self):
        return self._target

    def patients(self):
        return people()


class TestScoringByIds(Kept):
    def test_it_says_what_it_can_and_no_more(self):
        assert isinstance(self.target(), ScoringTarget)
        with pytest.raises(NothingExamined):
            stepping(self.target())

    def test_scores_are_the_servers(self):
        scores = self.target().token_logprobs([(1, 5, 6, 2), (1,), (1, 9)])
        assert np.allclose(scores.logprob[0], [LOGS[1, 5], LOGS[5, 6], LOGS[6, 2]])
        assert scores.counts.tolist() == [3, 0, 1]
        assert np.isnan(scores.mean[0]).all()


class TestSteppingByIds(Kept):
    settings = settings(logprobs=SIZE)

    def test_it_says_everything(self):
        assert isinstance(self.target(), SequenceTarget)

    def test_scores_are_standardised(self):
        scores = self.target().token_logprobs([(1, 5)])
        mean = (np.exp(LOGS[1]) * LOGS[1]).sum()
        assert np.isclose(scores.mean[0, 0], mean)


class TestSamplingByIds(Kept):
    settings = settings(logprobs=0)

    def test_it_says_no_probability(self):
        assert not isinstance(self.target(), SteppingTarget)
        with pytest.raises(NothingExamined):
            scoring(self.target())


class TestScoringByText(Kept):
    settings = text()


class TestSamplingByText(Kept):
    settings = text(logprobs=0)


def changed(path, value):
    """Return what spoils an answer at a path into its first choice."""

    def spoil(answer):
        held = answer["choices"][0]
        for part in path[:-1]:
            held = held[part]
        held[path[-1]] = value(held[path[-1]]) if callable(value) else value
        return answer

    return spoil


PLACES = ("logprobs", "token_logprobs")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda _: [], "no completion"),
        (lambda _: {"choices": [1]}, "no completion"),
        (lambda a: {"choices": a["choices"] * 2}, "as many choices"),
        (lambda _: {"choices": []}, "as many choices"),
        (changed(("logprobs",), None), "has no logprobs"),
        (changed(PLACES, lambda v: v[:-1]), "one logprob for every token"),
        (changed(PLACES, lambda v: [*v, -1.0, -1.0]), "one logprob for every token"),
        (changed(PLACES, lambda v: [v[0], float("nan"), *v[2:]]), "not a finite number"),
        (changed(PLACES, lambda v: [v[0], -(10**400), *v[2:]]), "not a finite number"),
        (changed(PLACES, lambda v: [v[0], True, *v[2:]]), "not a finite number"),
        (changed(PLACES, lambda v: [v[0], 0.5, *v[2:]]), "above 1"),
        (changed(("logprobs", "tokens"), lambda v: [v[0], *v[:-1]]), "not those of the prompt"),
        (
            changed(("logprobs", "top_logprobs"), lambda v: [None, *({"x": -0.1, "y": -0.1} for _ in v[1:])]),
            "sum to more",
        ),
        (changed(("logprobs", "top_logprobs"), lambda v: v[:1]), "likeliest tokens of every place"),
    ],
)
def test_a_wrong_score_is_refused_and_no_record_is_repeated(tmp_path, spoil, said):
    with serving(spoil=spoil) as model, pytest.raises(WrongInput, match=said) as refused:
        asked(model, tmp_path)
    assert "token_id" not in str(refused.value)


def test_a_whole_distribution_sums_to_one(tmp_path):
    def spoil(answer):
        for top in answer["choices"][0]["logprobs"]["top_logprobs"][1:]:
            top["token_id:4"] = -0.1
        return answer

    with serving(spoil=spoil) as model, pytest.raises(WrongInput, match="do not sum to 1"):
        asked(model, tmp_path, settings(logprobs=SIZE))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda a: {"choices": a["choices"][1:]}, "as many choices"),
        (changed(("index",), 0), "as many choices"),
        (changed(("token_ids",), None), "no token_ids"),
        (changed(("token_ids",), [SIZE]), "no token_ids"),
        (changed(("token_ids",), [4] * 5), "longer"),
        (
            lambda a: {"choices": [c | {"token_ids": [4], "finish_reason": "length"} for c in a["choices"]]},
            "ends before",
        ),
    ],
)
def test_a_wrong_continuation_is_refused(tmp_path, spoil, said):
    with serving(spoil=spoil) as model, pytest.raises(WrongInput, match=said):
        drawn(model, tmp_path, settings(logprobs=0))


def sampler(change):
    """Return a fault that is a server with another idea of sampling; scores stay as they are."""

    def fault(_, number, body):
        if body.get("echo"):
            return None
        answer = completed(body)
        for choice, other in zip(
            answer["choices"], completed(body, **change(number))["choices"], strict=True
        ):
            choice["token_ids"] = other["token_ids"]
            choice["finish_reason"] = other["finish_reason"]
            if "logprobs" in choice:
                choice["logprobs"]["tokens"] = other["logprobs"]["tokens"]
        return 200, json.dumps(answer).encode()

    return fault


def truncated(_):
    kept = np.where(np.sort(LOGS, axis=1)[:, [-4]] > LOGS, -np.inf, LOGS)
    return {"logs": kept - np.logaddexp.reduce(kept, axis=1, keepdims=True)}


def heated(_):
    return {"logs": LOGS * 2 - np.logaddexp.reduce(LOGS * 2, axis=1, keepdims=True)}


@pytest.mark.parametrize("change", [truncated, heated])
def test_draws_that_are_not_from_what_is_told_are_noticed(tmp_path, change):
    with serving(fault=sampler(change)) as model, pytest.raises(WrongInput, match="does not draw from"):
        drawn(model, tmp_path, settings(logprobs=5))


def test_a_server_that_ignores_the_seed_is_incoherent(tmp_path):
    def unseeded(number):
        return {"rng": np.random.default_rng(number)}

    with (
        serving(fault=sampler(unseeded)) as model,
        open_endpoint(model.url, "m", MAP, settings(), keep=tmp_path) as (target, _),
        pytest.raises(WrongInput, match="one seed does not draw one sample"),
    ):
        check_coherent(target, people())
