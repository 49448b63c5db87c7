"""What each verb answers under `--format json`, as types; `spec/schema/` has their JSON Schemas.

Every key is always there, and null where there is no value. A key is never taken away or given another
meaning under one `format`; new ones may come.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal, get_args

from pydantic import Field

from oathbound.core.finding import Finding
from oathbound.core.record import Count, Digest, Exact, Name, Record, Text
from oathbound.evidence.patient import Allowed
from oathbound.evidence.predicates import Admission, Seconds
from oathbound.workflow.extensions import Pin

Verdict = Literal["pass", "fail", "inconclusive"]
PathText = Annotated[
    str, Field(description="A path on this machine, as it was given.", examples=["path/to/it"])
]
Sentence = Annotated[
    str,
    Field(
        description="The verdict in one sentence.",
        examples=["accepted: every gate held over all sites together"],
    ),
]
Spent = Annotated[
    Exact | None,
    Field(
        description="Epsilon, at the policy's delta, as decimal text; null where no bound holds.",
        examples=["2.9808"],
    ),
]


class Answer(Record, defer_build=True):
    """The base of every answer."""

    format: str

    def encoded(self) -> str:
        """Return the answer as JSON with sorted keys."""
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True)


class InitAnswer(Answer):
    """`init`: a study's folder was made."""

    format: Literal["oathbound/init/v1"] = "oathbound/init/v1"
    study: PathText
    coordinator: Digest = Field(description="The fingerprint of the coordinator's public keys.")


class JoinAnswer(Answer):
    """`join`: a site's folder is there."""

    format: Literal["oathbound/join/v1"] = "oathbound/join/v1"
    name: Name = Field(description="The site.")
    fingerprint: Digest = Field(description="Of the site's public keys, to be compared out of band.")
    made: bool = Field(description="Whether the folder is new; it is never made twice.")


class OathAnswer(Answer):
    """`oath`: a site swore to the policy."""

    format: Literal["oathbound/oath/v1"] = "oathbound/oath/v1"
    site: Name = Field(description="Who swore.")
    policy: Digest = Field(description="The digest of what it swore to.")


class CheckAnswer(Answer):
    """`check`: what a policy binds and costs."""

    format: Literal["oathbound/check/v1"] = "oathbound/check/v1"
    policy: Digest = Field(description="The policy's digest, to which sites swear.")
    weights: Count = Field(description="Weights of the model.")
    tokens: Count = Field(
        description="Tokens of the vocabulary, special ones included; of a classifier, the features of a row."
    )
    expected_batch: Count = Field(description="Patients expected in a step, over all sites.")
    steps: Count = Field(description="Steps of the plan.")
    attempts: Count = Field(description="The most attempts that may be charged.")
    epsilon: Spent = Field(description="The price of all attempts; null where no bound holds.")


class ExaminedAnswer(Record):
    """One thing that `doctor` looked at."""

    what: str = Field(description="What should be.", examples=["the folder can be written"])
    wrong: str = Field(description="What is wrong; empty where nothing is.", examples=[""])
    hint: str = Field(description="What to do about it; may be empty.", examples=[""])


class DoctorAnswer(Answer):
    """`doctor`: how a site is set up."""

    format: Literal["oathbound/doctor/v1"] = "oathbound/doctor/v1"
    site: Name = Field(description="The site.")
    examined: tuple[ExaminedAnswer, ...] = Field(min_length=1)


class TestPriceAnswer(Record):
    """What one test is expected to cost."""

    test: Name = Field(description="The test.")
    tokens: Count = Field(description="Tokens that will go through the model.")
    seconds: Count = Field(description="Seconds on this machine, of one process.")
    reason: str = Field(description="Why the test will not run; empty where it will.")


class PriceAnswer(Answer):
    """`check` of a model and records: what an audit of it will cost."""

    format: Literal["oathbound/price/v1"] = "oathbound/price/v1"
    tests: tuple[TestPriceAnswer, ...] = Field(description="The tests, by name.")


class AdmitAnswer(Answer):
    """`admit`: a site's cohort, as it was stated."""

    format: Literal["oathbound/admit/v1"] = "oathbound/admit/v1"
    admission: Admission = Field(description="The statement; counts are rounded to 5, null where too small.")


class TrainAnswer(Answer):
    """`train`: the model is trained."""

    format: Literal["oathbound/train/v1"] = "oathbound/train/v1"
    folder: PathText
    model: Digest = Field(description="The model's digest.")
    steps: Count = Field(description="Steps taken.")
    attempts: Count = Field(description="Attempts charged, at the site that charged most.")
    epsilon: Spent


class AuditAnswer(Answer):
    """`audit`: what every test found, at a site of a study or without one."""

    format: Literal["oathbound/audit/v1"] = "oathbound/audit/v1"
    findings: tuple[Finding, ...] = Field(description="One for each test, also of a test that did not run.")
    attempt: Count | None = Field(
        default=None,
        description="Without a study: the number of this attempt in audits.jsonl; null at a site.",
    )
    known: Count | None = Field(
        default=None,
        description="Without a study: how many of a hundred events the model's vocabulary lists; or null.",
    )
    unread: Count | None = Field(
        default=None,
        description=(
            "Without a study: how many of a hundred patients could not be read, rounded up to a multiple "
            "of 5; null at a site."
        ),
    )
    no_verdict: Text | None = Field(
        default=None, description="Without a study: why there is no verdict; null at a site."
    )


class ReleaseAnswer(Answer):
    """`release`: the model was judged, and a bundle written."""

    format: Literal["oathbound/release/v1"] = "oathbound/release/v1"
    verdict: Verdict
    reason: Sentence
    bundle: PathText


class VerifyAnswer(Answer):
    """`verify`: the bundle is authentic and acceptable; the verdict is another matter."""

    format: Literal["oathbound/verify/v1"] = "oathbound/verify/v1"
    study: Name
    policy: Digest = Field(description="The digest of the policy that every site swore to.")
    model: Digest = Field(description="The model's digest.")
    epsilon: Spent
    verdict: Verdict
    reason: Sentence
    decided: Count = Field(
        description="When it was decided, by its witnesses' clocks: POSIX seconds.", examples=[1_800_000_000]
    )
    steps: tuple[Text, ...] = Field(
        description="What was verified, step by step.", examples=[["the file is a bundle in its one form"]]
    )
    patient: tuple["PatientCohort", ...] | None = Field(
        default=None, description="With --receipt and --proof: each cohort of the patient's site."
    )


class ReportAnswer(Answer):
    """`report`: a page, or a section of a model card, about a verified bundle or about findings."""

    format: Literal["oathbound/report/v1"] = "oathbound/report/v1"
    page: PathText | None = Field(description="What was written; null if the card is here.")
    verdict: Verdict | None = Field(description="The verdict; null of an audit without a study.")
    card: str | None = Field(
        default=None, description="The section, if no file was named.", examples=["## Memorisation audit"]
    )


class DemoStage(Record):
    """A stage of the demo."""

    verb: str = Field(
        description="The verb; empty where a line goes on with the one before.", examples=["verify"]
    )
    said: str = Field(
        description="What it said, for people.", examples=["plain.oath is authentic: exit 12, ..."]
    )


class DemoAnswer(Answer):
    """`demo`: all of it."""

    format: Literal["oathbound/demo/v1"] = "oathbound/demo/v1"
    stages: tuple[DemoStage, ...]


class DataSetAnswer(Record):
    """A public data set that can be downloaded."""

    name: str = Field(description="What to ask for.", examples=["mimic-iv-demo"])
    version: str = Field(description="The publisher's version.", examples=["2.2"])
    title: str = Field(description="What its publisher calls it.")
    people: Count = Field(description="Patients.")
    sites: Count = Field(description="Hospitals.")
    licence: str = Field(description="What its publisher allows.")
    cite: tuple[str, ...] = Field(description="What its publisher wants to be cited.")
    address: str = Field(description="Where it is downloaded from.")
    files: dict[str, Digest] = Field(description="The digest of each file, by its path.")


class DataListAnswer(Answer):
    """`data list`: the public data sets."""

    format: Literal["oathbound/data-list/v1"] = "oathbound/data-list/v1"
    sets: tuple[DataSetAnswer, ...]


class DataGetAnswer(Answer):
    """`data get`: a public data set is there, whole."""

    format: Literal["oathbound/data-get/v1"] = "oathbound/data-get/v1"
    name: str = Field(examples=["mimic-iv-demo"])
    version: str = Field(examples=["2.2"])
    licence: str = Field(description="What its publisher allows.")
    cite: tuple[str, ...] = Field(description="What its publisher wants to be cited.")
    downloaded: Count = Field(description="Files that were downloaded now; the others were there.")
    records: tuple[PathText, ...] = Field(description="The folders of records that were made.")


class PatientReceiptAnswer(Answer):
    """`patient receipt` and `patient withdraw`: a receipt for one patient was written."""

    format: Literal["oathbound/patient-receipt/v1"] = "oathbound/patient-receipt/v1"
    site: Name
    issued: Seconds
    consents: tuple[Allowed, ...] = Field(description="The patient's consents, as the site read them.")
    withdrawn: Seconds | None = Field(description="When the patient withdrew; null if not.")
    receipt: PathText


class PatientProofAnswer(Answer):
    """`patient proof`: the proofs for one patient were written."""

    format: Literal["oathbound/patient-proof-made/v1"] = "oathbound/patient-proof-made/v1"
    site: Name
    policy: Digest = Field(description="The digest of the study's policy.")
    cohorts: tuple[str, ...] = Field(
        description="The cohorts that are proven.", examples=[["members", "round-1"]]
    )
    proof: PathText


class PatientStudy(Record):
    """One study that drew a patient."""

    study: Name
    part: Literal["members", "held_out", "reference"]
    uses: tuple[str, ...] = Field(
        description="The rounds and audits in which the patient's records could be used.",
        examples=[["round-1"]],
    )
    model: Digest | None = Field(description="The model; null if its bundle was not given.")
    bound: Literal["bounded", "unbounded", "unknown", "none"]


class PatientModelsAnswer(Answer):
    """`patient models`: the studies that drew one patient."""

    format: Literal["oathbound/patient-models/v1"] = "oathbound/patient-models/v1"
    studies: tuple[PatientStudy, ...]


class PatientCohort(Record):
    """What is proven of the patient and one cohort."""

    label: str = Field(description="Which cohort.", examples=["round-1"])
    as_of: Seconds = Field(description="When the consents for it were read.")
    member: bool


class ExtensionsAnswer(Answer):
    """`extensions`: what is installed that a study can name, as it pins it."""

    format: Literal["oathbound/extensions/v1"] = "oathbound/extensions/v1"
    extensions: tuple[Pin, ...] = Field(description="What cannot be pinned is not listed; stderr says why.")


class TopicAnswer(Record):
    """Something that can be explained."""

    id: str = Field(description="What to ask for.", examples=["exit 12"])
    kind: str = Field(
        description="What it is: an exit code, an error, a key, a step, ...", examples=["exit code"]
    )
    title: str = Field(description="One line.", examples=["a gate failed"])
    text: str = Field(description="All of it; empty where the title says everything.", examples=[""])


class ExplainAnswer(Answer):
    """`explain`: what was asked for, or everything that can be."""

    format: Literal["oathbound/explain/v1"] = "oathbound/explain/v1"
    topics: tuple[TopicAnswer, ...] = Field(min_length=1)


class CompletionAnswer(Answer):
    """`completion`: the script that a shell reads."""

    format: Literal["oathbound/completion/v1"] = "oathbound/completion/v1"
    shell: Literal["bash", "zsh", "fish"]
    script: str = Field(examples=["_oathbound_completion() { ..."])


class ErrorAnswer(Answer):
    """Any verb that could not: the one JSON object on stderr, while stdout stays empty."""

    format: Literal["oathbound/error/v1"] = "oathbound/error/v1"
    error: str = Field(description="What is wrong, in one sentence.", examples=["no audit test is called x"])
    kind: str = Field(
        description="The class of the error; `oathbound explain` knows it.", examples=["WrongInput"]
    )
    hint: str | None = Field(description="What to do about it.", examples=["one of: membership"])
    exit: int = Field(description="The exit code of the process.", examples=[2])
    step: int | None = Field(description="The step of `verify` that refused.", examples=[None])


ANSWERS: Final[Mapping[str, type[Answer]]] = MappingProxyType(
    {
        get_args(each.model_fields["format"].annotation)[0].split("/")[1]: each
        for each in Answer.__subclasses__()
    }
)
"""Every answer by the verb that gives it; `error` by any."""
