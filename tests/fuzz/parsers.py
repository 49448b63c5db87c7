"""Every parser of bytes that others may have made, with valid samples, and the errors that it documents.

A parser that reads a folder gets its files as one JSON object, content by name, each byte one character.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from io import BytesIO
from itertools import chain
from pathlib import Path
from string import Template
from typing import Any, Final

import numpy as np
import polars as pl
import recordings

import oathbound
from oathbound.core.canonical import canonical, digest, from_canonical
from oathbound.core.errors import (
    NotAcceptable,
    NotAuthentic,
    NothingExamined,
    OathboundError,
    ProtocolRefused,
    WrongInput,
)
from oathbound.core.study import Policy, Study
from oathbound.data.codes import PURPOSE_SYSTEM
from oathbound.data.fhir import parse_consent, read_consents
from oathbound.data.meds import open_meds
from oathbound.evidence import b64, cohort_proof, envelope, note
from oathbound.evidence.bundle import pack, unpack
from oathbound.evidence.contents import Contents
from oathbound.evidence.keys import SECRET_FORMAT, Party, Secret
from oathbound.evidence.log import Log
from oathbound.evidence.merkle import leaf_hash, root
from oathbound.evidence.patient import PatientProof, Receipt
from oathbound.evidence.predicates import Predicate, SitePredicate, predicate_of
from oathbound.evidence.trust import Trust
from oathbound.evidence.verify import verify
from oathbound.models.family import family_of
from oathbound.models.folder import read_model, write_model
from oathbound.testing.consortium import NOW, Consortium, policy_for
from oathbound.train.descent import Descent
from oathbound.train.messages import Label, Step, weight_bytes
from oathbound.train.plan import Plan
from oathbound.workflow.folders import SiteFolder, StudyFolder

PACKAGE: Final = Path(oathbound.__file__).parent
ORIGIN: Final = "oathbound.invalid/example/north"
WEIGHTS: Final = np.array([0.5, -1.0, 3e-9], dtype=np.float32)
RUN: Final = digest(b"run")

Parse = Callable[[bytes, Path], object]


@dataclass(frozen=True, slots=True)
class Parser:
    """`parse(data, folder)` returns a value or raises one of `refusals`."""

    parse: Parse
    samples: Callable[[], list[bytes]]
    refusals: tuple[type[OathboundError], ...]


@cache
def secret(name: str) -> Secret:
    seed = b64.encode(sha256(name.encode()).digest())
    return Secret.parse({"format": SECRET_FORMAT, "name": name, "seed": seed}, what="a test's secret")


@cache
def secrets() -> dict[str, Secret]:
    return {name: secret(name) for name in ("coordinator", "north", "east")}


@cache
def parties() -> dict[str, Party]:
    return {party.fingerprint: party for party in (one.party() for one in secrets().values())}


@cache
def policy() -> Policy:
    return policy_for(list(secrets().values()))


class Scripted(Consortium):
    """A consortium in which one statement, counted from 0, says something else: `told`."""

    at: int = -1
    told: Any = None
    said: list[Predicate]

    def say(self, predicate: Predicate, *, by: str | None = None, logs: Sequence[str] | None = None) -> None:
        before = {name: len(leaves) for name, leaves in self.logs.items()}
        super().say(predicate, by=by, logs=logs)
        if len(self.said) == self.at:
            maker = by or (predicate.site if isinstance(predicate, SitePredicate) else "coordinator")
            statement = predicate.statement().model_copy(update={"predicate": self.told})
            leaf = envelope.sign(statement, self.secrets[maker])
            for name, leaves in self.logs.items():
                if len(leaves) > before[name]:
                    leaves[-1] = leaf
        self.said.append(predicate)


def scripted(at: int, told: Any) -> Scripted:
    """Return a consortium that did everything; the statement number `at` says `told`."""
    names = secrets()
    consortium = Scripted(
        secrets=dict(names),
        policy=policy(),
        logs={name: [] for name in names},
        notes={name: [] for name in names},
        found={name: [] for name in names if name != "coordinator"},
    )
    consortium.at, consortium.told, consortium.said = at, told, []
    consortium.swear().admit().start().train().make().audit().decide()
    return consortium


@cache
def statements() -> list[Predicate]:
    return scripted(-1, None).said


def as_files(data: bytes) -> dict[str, bytes]:
    """Return the files that `data` describes; none when it does not."""
    try:
        value = json.loads(data)
        files = {name: text.encode("latin-1") for name, text in value.items()}
    except (ValueError, AttributeError, RecursionError):
        return {}
    return {name: content for name, content in files.items() if _is_name(name)}


def from_files(files: dict[str, bytes]) -> bytes:
    return json.dumps({name: content.decode("latin-1") for name, content in files.items()}).encode()


def _is_name(name: str) -> bool:
    parts = name.split("/")
    return len(name) < 100 and all(
        part.strip(".") and part.isascii() and part.isprintable() for part in parts
    )


def written(files: dict[str, bytes], folder: Path) -> Path:
    """Write the files below a new folder; those that stand where a folder must be are left out."""
    for name, content in sorted(files.items()):
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:
            continue
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def in_file(name: str, load: Callable[[Path], object], mode: int = 0o600) -> Parse:
    """Return a parser of bytes from one that takes a file of this name."""

    def parse(data: bytes, folder: Path) -> object:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
        return load(path)

    return parse


def of(parse: Callable[[bytes], object]) -> Parse:
    return lambda data, _: parse(data)


def envelopes() -> list[bytes]:
    kinds = {type(said): said for said in statements()}
    return [envelope.sign(said.statement(), secret("north")) for said in list(kinds.values())[:2]]


def notes() -> list[bytes]:
    bare = note.sign_checkpoint(ORIGIN, 3, root([leaf_hash(b"a")]), secret("north"))
    return [bare, note.cosign(bare, secret("east"), NOW)]


def proven(data: bytes) -> object:
    """Read a proof, and walk it to the root that it leads to, if it leads to one."""
    proof = cohort_proof.decode_proof(data)
    try:
        return cohort_proof.check(bytes(32), bytes(32), proof)
    except NotAuthentic:
        return proof


def proofs() -> list[bytes]:
    ends: list[dict[str, Any]] = [{"end": "leaf"}, {"end": "empty"}, {"end": "other", "other": "ab" * 32}]
    return [canonical(end | {"siblings": ["cd" * 32] * 3}) for end in ends]


def receipts() -> list[bytes]:
    allowed = {"status": "active", "given": "2025-06-01", "rule": "research"}
    facts = {
        "site": "north",
        "issued": NOW,
        "key": "ab" * 32,
        "consents": [allowed],
        "withdrawn": NOW,
        "how_to_withdraw": "tell the hospital",
        "how_to_check": "ask anybody",
    }
    return [Receipt.parse(facts, what="receipt").signed(secret("north"))]


def patient_proofs() -> list[bytes]:
    proof = {
        "format": "oathbound/patient-proof/v1",
        "site": "north",
        "policy": RUN,
        "proofs": {"members": json.loads(proofs()[0]), "round-1": json.loads(proofs()[2])},
    }
    return [canonical(proof)]


def statement(data: bytes) -> object:
    """Read what a statement's payload says, as `open_envelope` and step 3 do once the signatures hold."""
    return predicate_of(envelope._statement(data))


def payloads() -> list[bytes]:
    return [canonical(said.statement().plain()) for said in statements()]


def a_told_bundle(data: bytes) -> object:
    """Verify a bundle in which one statement, signed by its own maker, says what `data` says."""
    try:
        script = json.loads(data)
        consortium = scripted(script["at"] % len(statements()), dict(script["told"]))
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, WrongInput):
        return None
    return verify(consortium.bundle(), consortium.trust(), at=NOW + 3600)


def told_bundles() -> list[bytes]:
    return [
        json.dumps({"at": number, "told": said.plain()}).encode() for number, said in enumerate(statements())
    ]


def trust_files() -> list[bytes]:
    entries = (
        f'\n[[party]]\nname = "{party.name}"\nfingerprint = "{fingerprint}"\n'
        for fingerprint, party in parties().items()
    )
    return [f'format = "oathbound/trust/v1"\n{"".join(entries)}'.encode()]


def study() -> dict[str, Any]:
    run = {"engine": "local", "sites": "sites", "threads": 1}
    return {"format": "oathbound/study/v1", "policy": policy().plain(), "run": run}


def study_of(data: bytes) -> object:
    """Read a study as decoded from TOML, which is stood in for by JSON."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return Study.of(value) if isinstance(value, dict) else None


def study_files() -> list[bytes]:
    template = Template((PACKAGE / "workflow" / "templates" / "study.toml").read_text())
    names = ("north", "east", "south")
    sites = "".join(
        f'[[policy.sites]]\nname = "{name}"\nfingerprint = "{secret(name).party().fingerprint}"\n\n'
        for name in names
    )
    coordinator = secret("coordinator").party().fingerprint
    text = template.substitute(study="example", coordinator=coordinator, sites=sites, folder="sites")
    return [text.encode()]


SITE_FILE: Final = b"""format = "oathbound/site/v1"
name = "north"
records = { source = "meds", options = { path = "meds" } }
consents = { path = "consents.ndjson" }
budget = { epsilon = "8.0", delta = "1e-5" }
"""


NAMES: Final = {"run": RUN, "plan": digest(b"plan"), "model": digest(weight_bytes(WEIGHTS))}
STEP: Final = Label(step=2, attempt=3, **NAMES)


@cache
def plan() -> Plan:
    return Plan.of(policy(), len(WEIGHTS))


def snapshots() -> list[bytes]:
    descent = Descent(plan=plan(), run=RUN, weights=WEIGHTS)
    descent.begin()
    return [descent.snapshot()]


@cache
def model_files() -> dict[str, bytes]:
    family = family_of(policy())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        write_model(path, family.model, family.encoder.seen, lineage={"steps": 3})
        return {file.name: file.read_bytes() for file in path.iterdir()}


SCANS: Final = {"png": recordings.png, "npz": recordings.npz, "dcm": recordings.dicom}


def scans_of(ending: str, samples: Callable[[], list[bytes]]) -> Parser:
    def parse(data: bytes, folder: Path) -> object:
        return recordings.scan(ending, data, folder)

    return Parser(parse, samples, (WrongInput, NothingExamined))


def model_with(name: str) -> Parser:
    """Return the parser of one file of a model's folder, the others being intact."""

    def parse(data: bytes, folder: Path) -> object:
        return read_model(written(model_files() | {name: data}, folder))

    return Parser(parse, lambda: [model_files()[name]], (WrongInput, NotAuthentic))


def consent(**more: Any) -> dict[str, Any]:
    scope = {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}
    purpose = [{"system": PURPOSE_SYSTEM, "code": "HRESCH"}]
    return {
        "resourceType": "Consent",
        "id": "c-1",
        "meta": {"lastUpdated": "2025-06-02T10:00:00.5+02:00"},
        "status": "active",
        "scope": {"coding": [scope]},
        "patient": {"reference": "Patient/17"},
        "dateTime": "2025-06-01",
        "provision": {
            "type": "permit",
            "purpose": purpose,
            "period": {"start": "2024", "end": "2027-02"},
            "provision": [{"type": "deny", "purpose": purpose, "provision": [{"type": "permit"}]}],
        },
    } | more


def consents() -> list[bytes]:
    return [json.dumps(consent()).encode(), json.dumps(consent(dateTime="9999-12-31", id="c-2")).encode()]


def consents_r5() -> list[bytes]:
    purpose = [{"system": PURPOSE_SYSTEM, "code": "HRESCH"}]
    resource = {
        "resourceType": "Consent",
        "id": "c-5",
        "status": "active",
        "category": [{"coding": [{"system": "http://loinc.org", "code": "57016-8"}]}],
        "subject": {"reference": "Patient/17"},
        "date": "2025-06-01",
        "decision": "deny",
        "provision": [{"purpose": purpose, "provision": [{"purpose": purpose}]}],
    }
    return [json.dumps(resource).encode()]


def documents() -> list[bytes]:
    entries = [{"resource": json.loads(one)} for one in (*consents(), *consents_r5())]
    return [json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}).encode()]


def shards() -> list[bytes]:
    day = datetime(2020, 1, 1)  # noqa: DTZ001 - MEDS times have no zone
    schema = pl.Schema(
        {
            "subject_id": pl.Int64(),
            "time": pl.Datetime("us"),
            "code": pl.String(),
            "numeric_value": pl.Float32(),
        }
    )
    frame = pl.DataFrame([(1, day, "A", 1.0), (2, None, "B", None)], schema=schema, orient="row")
    plain, packed = BytesIO(), BytesIO()
    frame.write_parquet(plain, compression="uncompressed")
    frame.write_parquet(packed, compression="zstd")
    return [plain.getvalue(), packed.getvalue()]


def opened_log(data: bytes, folder: Path) -> object:
    with Log.open(written(as_files(data), folder / "log"), ORIGIN) as log:
        return log.leaves(), log.checkpoints()


def logs() -> list[bytes]:
    def entry(leaf: bytes) -> bytes:
        return len(leaf).to_bytes(2) + leaf

    leaves = [b"first", b"second", b"third"]
    head = note.sign_checkpoint(ORIGIN, 3, root([leaf_hash(leaf) for leaf in leaves]), secret("north"))
    tile = b"".join(map(entry, leaves))
    many = [b"%d" % number for number in range(257)]
    full = {"tile/entries/000": b"".join(map(entry, many[:256])), "tile/entries/001.p/1": entry(many[256])}
    return [
        from_files({"tile/entries/000.p/3": tile, "checkpoints/3": head, "checkpoint": head}),
        from_files(full),
    ]


def bundles() -> list[bytes]:
    return [pack({"a.json": b"{}"}), pack({"logs/north/leaves.json": b"[]", "policy.json": b"x" * 40})]


PARSERS: Final[dict[str, Parser]] = {
    "bundle": Parser(of(unpack), bundles, (NotAuthentic,)),
    "contents": Parser(
        of(lambda data: Contents.of(as_files(data))),
        lambda: [
            from_files(
                {
                    "policy.json": b"{}",
                    "parties/north.json": b"{}",
                    f"leaves/{sha256(b'leaf').hexdigest()}.json": b"leaf",
                    "logs/north/leaves.json": canonical([sha256(b"leaf").hexdigest()]),
                    "logs/north/checkpoint-1": b"note",
                }
            )
        ],
        (NotAuthentic,),
    ),
    "party": Parser(of(Party.decode), lambda: [secret("north").party().encoded()], (NotAuthentic,)),
    "secret": Parser(
        in_file("north.key", Secret.load), lambda: [canonical(secret("north").plain())], (WrongInput,)
    ),
    "envelope": Parser(of(lambda data: envelope.open_envelope(data, parties())), envelopes, (NotAuthentic,)),
    "note": Parser(of(note.decode), notes, (NotAuthentic,)),
    "checkpoint": Parser(
        of(lambda data: note.open_checkpoint(data, secret("north").party(), ORIGIN)), notes, (NotAuthentic,)
    ),
    "witnesses": Parser(of(lambda data: note.witnesses(data, parties())), notes, (NotAuthentic,)),
    "cohort-proof": Parser(
        of(proven),
        proofs,
        (NotAuthentic,),
    ),
    "receipt": Parser(of(lambda data: Receipt.opened(data, parties())), receipts, (NotAuthentic,)),
    "patient-proof": Parser(of(PatientProof.decode), patient_proofs, (NotAuthentic,)),
    "canonical": Parser(
        of(lambda data: from_canonical(data, what="it")),
        lambda: [
            canonical({"a": [1, True, None, "\u00e9\U0001f600"], "b": {"c": -(2**53) + 1}}),
            b"0",
            b'""',
        ],
        (NotAuthentic,),
    ),
    "trust": Parser(in_file("trust.toml", Trust.load), trust_files, (WrongInput,)),
    "study": Parser(of(study_of), lambda: [json.dumps(study()).encode()], (WrongInput,)),
    "study-file": Parser(in_file("study.toml", StudyFolder.open), study_files, (WrongInput,)),
    "policy": Parser(
        of(lambda data: Policy.parse(data, what="the policy")),
        lambda: [canonical(policy().plain())],
        (WrongInput,),
    ),
    "statement": Parser(of(statement), payloads, (NotAuthentic, NotAcceptable)),
    "told-bundle": Parser(of(a_told_bundle), told_bundles, (NotAuthentic, NotAcceptable)),
    "step": Parser(
        of(lambda data: Step.decode(data, len(WEIGHTS))),
        lambda: [Step(STEP, WEIGHTS).encode(b""), Step(STEP, WEIGHTS).encode(b"announcement")],
        (ProtocolRefused,),
    ),
    "snapshot": Parser(
        of(lambda data: Descent.restore(data, plan=plan(), run=RUN, charged=0)), snapshots, (WrongInput,)
    ),
    "model-config": model_with("config.json"),
    "model-vocabulary": model_with("vocabulary.json"),
    "model-lineage": model_with("lineage.json"),
    "model-weights": model_with("model.safetensors"),
    "consent": Parser(of(parse_consent), lambda: consents() + consents_r5(), (WrongInput,)),
    "consent-document": Parser(
        in_file("consents.json", read_consents), documents, (WrongInput, NothingExamined)
    ),
    "consents": Parser(
        in_file("consents.ndjson", read_consents),
        lambda: [b"\n".join(consents()), b"{}\n\n" + consents()[0] + b"\n"],
        (WrongInput, NothingExamined),
    ),
    "meds": Parser(
        in_file("data/0.parquet", lambda path: _read_all(path.parents[1])),
        shards,
        (WrongInput, NothingExamined),
    ),
    **{f"scan-{ending}": scans_of(ending, samples) for ending, samples in SCANS.items()},
    "wfdb-record": Parser(
        lambda data, folder: recordings.beats(written(as_files(data), folder)),
        lambda: [from_files(files) for files in recordings.record()],
        (WrongInput, NothingExamined),
    ),
    "site-file": Parser(
        in_file("site.toml", lambda path: SiteFolder.open(path.parent)), lambda: [SITE_FILE], (WrongInput,)
    ),
    "log": Parser(opened_log, logs, (NotAuthentic,)),
}


def _read_all(folder: Path) -> object:
    source = open_meds({"path": "."}, folder)
    return source.duplicates(frozenset(source.subjects()))


def all_samples() -> list[bytes]:
    """Return the samples of every parser: what one of them reads may trip another."""
    return list(chain.from_iterable(parser.samples() for parser in PARSERS.values()))
