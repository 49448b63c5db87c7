"""`oathbound audit` without a study: models of transformers, trained here, and everything that is wrong."""

import datetime as dt
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="audits are an extra")
pytest.importorskip("transformers", reason="transformers is an extra")
import torch
import transformers
from safetensors.torch import load_file, save_file

from oathbound.audit.kept import ANSWERS, Answers
from oathbound.cli.main import run
from oathbound.core.audit_plan import AuditPlan
from oathbound.core.errors import Halted
from oathbound.core.shape import EventTransformer, Vocabulary
from oathbound.models.folder import write_model
from oathbound.models.transformer import build
from oathbound.workflow.audit_folder import _log_attempt

CODES = [f"CODE//{letter}" for letter in "ABCDEFGHIJKLMNOPQRST"]
TOKENS = {code: 4 + place for place, code in enumerate(CODES)}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
FIRST = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - MEDS times have no zone
LENGTH = 24


def records(first, people, seed):
    """Return patients' events: codes at random, so that nothing but memory tells members from others."""
    draw = np.random.default_rng(seed)
    return [
        (first + person, FIRST + dt.timedelta(days=day, minutes=first + person), str(code))
        for person in range(people)
        for day, code in enumerate(draw.choice(CODES, size=draw.integers(6, 20)))
    ]


def write(folder, rows, splits=None):
    (folder / "data").mkdir(parents=True)
    frame = pl.DataFrame(
        rows,
        schema={"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String},
        orient="row",
    )
    frame.write_parquet(folder / "data" / "0.parquet")
    if splits is not None:
        (folder / "metadata").mkdir()
        pl.DataFrame(splits).write_parquet(folder / "metadata" / "subject_splits.parquet")
    return folder


def rows_of(rows):
    by_person = {}
    for person, _, code in rows:
        by_person.setdefault(person, [1]).append(TOKENS[code])
    tokens = torch.zeros((len(by_person), LENGTH), dtype=torch.int64)
    for row, record in zip(tokens, by_person.values(), strict=True):
        whole = torch.tensor([*record, 2])[:LENGTH]
        row[: len(whole)] = whole
    return tokens


def made(kind):
    torch.manual_seed(1)
    size = 4 + len(CODES)
    if kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=size, n_positions=LENGTH, n_embd=48, n_layer=2, n_head=2, **SPECIAL
        )
        return transformers.GPT2LMHeadModel(config)
    small = {"vocab_size": size, "hidden_size": 48, "num_hidden_layers": 2, **SPECIAL}
    if kind == "llama":
        config = transformers.LlamaConfig(
            intermediate_size=96, num_attention_heads=2, max_position_embeddings=LENGTH, **small
        )
        return transformers.LlamaForCausalLM(config)
    return transformers.MambaForCausalLM(transformers.MambaConfig(state_size=4, **small))


def trained(kind, rows, steps):
    """Return a model that saw every row `steps` times."""
    model = made(kind).eval()  # without dropout: it is to remember
    tokens = rows_of(rows)
    seen = (tokens != 0).long()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        labels = tokens.masked_fill(tokens == 0, -100)
        logits = model(input_ids=tokens, attention_mask=seen).logits[:, :-1]
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten()).backward()
        optimiser.step()
        optimiser.zero_grad()
    return model


def save(model, folder):
    model.save_pretrained(folder)
    codes = {"format": "oathbound/codes/v1", "tokens": TOKENS, "unknown": 3}
    (folder / "vocabulary.json").write_text(json.dumps(codes))
    return folder


OURS = """
format = "oathbound/harm/v1"
name = "ours"
harm = "sensitive"
title = "what nobody speaks of"

[[group]]
topic = "A"
system = "local"
states = ["CODE//A"]
source = "invented"
comment = "Nothing implies it."

"""
HARM = """
format = "oathbound/audit-plan/v1"
alpha = "0.05"
minimum_patients = 20

[harm]
sets = {sets}
files = {files}
prompt_events = 2
horizon = 4
chains = 1
"""
UNPLANNED = {"alpha": Decimal("0.05"), "minimum_patients": 20}
MEMBERS, HELD_OUT = records(1000, 110, seed=1), records(5000, 110, seed=2)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Return a model that remembers, and the records that it was trained on, and others."""
    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("given")
    return SimpleNamespace(
        model=save(trained("gpt2", MEMBERS, 60), folder / "model"),
        members=write(folder / "members", MEMBERS),
        held_out=write(folder / "held-out", HELD_OUT),
    )


@pytest.fixture
def audit(monkeypatch, capsys, tmp_path):
    """Return a function that runs the verb, and gives exit code, answer and errors."""

    def ran(*arguments, verb="audit"):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["oathbound", verb, *map(str, arguments), "--format", "json"])
        with pytest.raises(SystemExit) as ended:
            run()
        out, err = capsys.readouterr()
        return SimpleNamespace(
            code=ended.value.code,
            answer=json.loads(out) if out else None,
            error=json.loads(err)["error"] if err.startswith("{") else err,
        )

    return ran


def area(answer, score="loss"):
    (finding,) = (each for each in answer["findings"] if each["test"] == "membership")
    measures = finding["outcome"]["measures"]
    (found,) = (each for each in measures if each["kind"] == "auc" and each["score"] == score)
    return float(found["estimate"]), float(found["standard_error"])


def two(given):
    return "--members", given.members, "--held-out", given.held_out


def test_a_model_that_remembers_is_found_and_there_is_no_verdict(given, audit, tmp_path):
    said = audit(given.model, *two(given), "-o", tmp_path / "findings.json")
    assert said.code == 13
    assert "there are no gates" in said.answer["no_verdict"]
    assert said.answer["known"] == 100
    estimate, error = area(said.answer)
    assert estimate - 4 * error > 0.6
    written = json.loads((tmp_path / "findings.json").read_text())
    assert written["findings"] == said.answer["findings"]
    assert written["plan"] == {"alpha": "0.05", "minimum_patients": 20}
    told = json.dumps([finding["outcome"] for finding in written["findings"]])
    assert not any(str(number) in told for number in {*range(1000, 1110), *range(5000, 5110)})


@pytest.mark.parametrize(("kind", "steps"), [("llama", 40), ("mamba", 40)])
def test_other_kinds_of_model_are_found_too(kind, steps, given, audit, tmp_path):
    model = save(trained(kind, MEMBERS, steps), tmp_path / "model")
    estimate, error = area(audit(model, *two(given)).answer)
    assert estimate - 4 * error > 0.6


def test_a_model_that_saw_neither_group_is_not_accused(given, audit, tmp_path):
    model = save(trained("gpt2", records(9000, 110, seed=3), 60), tmp_path / "model")
    estimate, error = area(audit(model, *two(given)).answer)
    assert abs(estimate - 0.5) < 4 * error


def test_splits_are_members_held_out_and_reference(given, audit, tmp_path):
    tuning = records(7000, 100, seed=4)
    people = {
        name: sorted({row[0] for row in rows})
        for name, rows in (("train", MEMBERS), ("held_out", HELD_OUT), ("tuning", tuning))
    }
    splits = {
        "subject_id": [person for each in people.values() for person in each],
        "split": [name for name, each in people.items() for _ in each],
    }
    whole = write(tmp_path / "whole", [*MEMBERS, *HELD_OUT, *tuning], splits)
    one, other = audit(given.model, "--records", whole), audit(given.model, *two(given))
    assert one.code == 13
    assert one.answer["findings"] == other.answer["findings"]


def test_a_plan_names_what_is_sensitive(given, audit, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'format = "oathbound/audit-plan/v1"\nalpha = "0.05"\nminimum_patients = 20\n'
        '[sensitive]\nname = "A"\ncodes = ["CODE//A", "CODE//C", "CODE//D"]\nimplied_by = ["CODE//B"]\n'
        "prompt_events = 3\nhorizon = 8\nchains = 2\n"
    )
    said = audit(given.model, *two(given), "--plan", plan)
    (finding,) = (each for each in said.answer["findings"] if each["test"] == "sensitive-disclosure")
    assert [measure["kind"] for measure in finding["outcome"]["measures"]] == ["excess"]
    text = plan.read_text()
    for wrong in (text.replace("chains", "chain"), text.replace('"0.05"', "0.05"), "format = 3", "]"):
        plan.write_text(wrong)
        assert audit(given.model, *two(given), "--plan", plan).code == 2
    assert audit(given.model, *two(given), "--plan", tmp_path / "none.toml").code == 2


def test_an_audit_repeats_and_attempts_are_counted(given, audit, tmp_path):
    first, again = (audit(given.model, *two(given)) for _ in range(2))
    assert first.answer == again.answer
    assert first.answer["attempt"] == 1
    plan = tmp_path / "plan.toml"
    plan.write_text('format = "oathbound/audit-plan/v1"\nalpha = "0.01"\nminimum_patients = 20\n')
    assert audit(given.model, *two(given), "--plan", plan).answer["attempt"] == 2
    assert len((tmp_path / "audits.jsonl").read_text().splitlines()) == 3
    (tmp_path / "audits.jsonl").write_text("{\n")
    assert audit(given.model, *two(given)).code == 2


def test_who_tries_other_patients_is_counted_too(given, audit, tmp_path):
    assert audit(given.model, *two(given)).answer["attempt"] == 1
    fewer = write(tmp_path / "fewer", [row for row in HELD_OUT if row[0] != HELD_OUT[0][0]])
    assert audit(given.model, "--members", given.members, "--held-out", fewer).answer["attempt"] == 2
    assert audit(given.model, *two(given)).answer["attempt"] == 1
    assert (tmp_path / ".audits-key").stat().st_mode & 0o777 == 0o600
    (tmp_path / ".audits-key").unlink()
    assert audit(given.model, *two(given)).answer["attempt"] == 3


def test_reference_models_that_are_given_are_compared_with(given, audit, tmp_path):
    others = records(20_000, 110, seed=8)
    model = save(trained("gpt2", others, 2), tmp_path / "other")
    reference = write(tmp_path / "reference", records(30_000, 110, seed=9))
    asked = (given.model, *two(given), "--reference", reference)
    alone = audit(*asked).answer["findings"]
    compared = audit(*asked, "--reference-model", model, "--reference-model", model).answer
    (without,), (found,) = (
        [each["outcome"]["measures"] for each in findings if each["test"] == "membership"]
        for findings in (alone, compared["findings"])
    )
    scores = {each["score"]: each for each in found if each["kind"] == "auc"}
    assert float(scores["reference-difference"]["estimate"]) > 0.6
    assert {each["score"] for each in found} - {each["score"] for each in without} == {
        "lira",
        "reference-difference",
        "rmia",
        "references",
    }
    assert compared["attempt"] == 2
    (threat,) = (each["threat"] for each in compared["findings"] if each["test"] == "membership")
    assert "trains like models" in threat["knows"]
    assert audit(*asked, *["--reference-model", model] * 5).code == 2
    assert audit(*asked, "--reference-model", tmp_path / "nowhere").code == 2


def test_a_plan_has_sets_of_its_own(given, audit, tmp_path):
    (tmp_path / "ours.toml").write_text(OURS)
    plan = tmp_path / "plan.toml"
    plan.write_text(HARM.format(sets='["ours"]', files='["ours.toml"]'))
    said = audit(given.model, *two(given), "--plan", plan, "-o", tmp_path / "f.json")
    assert said.code == 13
    assert json.loads((tmp_path / "f.json").read_text())["plan"]["sensitive"]["codes"] == ["CODE//A"]
    plan.write_text(HARM.format(sets='["ours"]', files='["nowhere.toml"]'))
    assert "nowhere.toml" in audit(given.model, *two(given), "--plan", plan).error
    plan.write_text(HARM.format(sets='["infectious"]', files='["ours.toml"]'))
    (tmp_path / "ours.toml").write_text(OURS.replace('"ours"', '"infectious"'))
    assert "two sets of codes are called infectious" in audit(given.model, *two(given), "--plan", plan).error


def test_two_attempts_at_once_are_two(tmp_path):
    def tried(number):
        return _log_attempt(tmp_path, (f"sha256:{number:064x}",), AuditPlan(**UNPLANNED), {}, 1)

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(tried, range(40))) == list(range(1, 41))


def test_patients_who_cannot_be_read_are_spoken_of(given, audit, tmp_path):
    rows = [(p, t, None if p % 10 == 0 else code) for p, t, code in HELD_OUT]
    damaged = write(tmp_path / "damaged", rows + records(9000, 20, seed=5))
    said = audit(given.model, "--members", given.members, "--held-out", damaged, "-o", tmp_path / "f.json")
    assert said.answer["unread"] == 5
    assert json.loads((tmp_path / "f.json").read_text())["unread"] == 5
    assert audit(given.model, *two(given)).answer["unread"] == 0


def test_a_patient_whom_the_model_cannot_score_is_not_left_out(given, audit, tmp_path):
    """Weights that are finite and overflow on one code, which only some of the members have."""
    shutil.copytree(given.model, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["transformer.wte.weight"][TOKENS["CODE//A"]] = 3e38
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    calm = [row for row in HELD_OUT if row[2] != "CODE//A"]
    some = [row for row in MEMBERS if row[2] != "CODE//A" or row[0] % 8 == 7]
    folders = write(tmp_path / "members", some), write(tmp_path / "held-out", calm)
    said = audit(tmp_path / "model", "--members", folders[0], "--held-out", folders[1])
    (found,) = (each for each in said.answer["findings"] if each["test"] == "membership")
    assert "not a finite number" in found["outcome"]["reason"]


def test_our_own_model_is_audited_too(given, audit, tmp_path):
    vocabulary = Vocabulary(codes=tuple(CODES), edges={}, ages=(), gaps=())
    architecture = EventTransformer(
        name="event-transformer", layers=1, width=16, heads=2, length=LENGTH, seed=1
    )
    write_model(tmp_path / "own", build(architecture, vocabulary.size), vocabulary)
    said = audit(tmp_path / "own", *two(given))
    assert said.code == 13
    estimate, error = area(said.answer)
    assert abs(estimate - 0.5) < 4 * error


def test_thirty_patients_are_not_measurable_and_nothing_is_wrong(given, audit, tmp_path):
    few = write(tmp_path / "few", records(5000, 30, seed=2))
    said = audit(given.model, "--members", given.members, "--held-out", few)
    assert said.code == 13
    assert all("not measurable" in finding["outcome"]["reason"] for finding in said.answer["findings"])
    assert "30" not in json.dumps([finding["outcome"] for finding in said.answer["findings"]])


def test_short_lists_are_refused_before_they_are_compared(given, audit, tmp_path):
    """A list of one would ask whether somebody is a member."""
    probe = write(tmp_path / "probe", MEMBERS[:6])
    assert audit(given.model, "--members", given.members, "--held-out", probe).code == 13


def test_overlap_is_refused_without_a_count(given, audit, tmp_path):
    person = MEMBERS[0][0]
    one = [row for row in MEMBERS if row[0] == person]
    same_id = write(tmp_path / "id", [*HELD_OUT, *((p, t, "CODE//A") for p, t, _ in one)])
    renamed = write(tmp_path / "renamed", [*HELD_OUT, *((6000, time, code) for _, time, code in one)])
    for held_out in (same_id, renamed):
        said = audit(given.model, "--members", given.members, "--held-out", held_out)
        assert said.code == 2
        assert "overlap" in said.error
        assert not any(letter.isdigit() for letter in said.error)
        priced = audit(given.model, "--members", given.members, "--held-out", held_out, verb="check")
        assert priced.code == 0, "a price, which is not logged, says nothing of an overlap"


def test_copies_within_a_part_count_once(given, audit, tmp_path):
    copies = [(person + 4000, time, code) for person, time, code in HELD_OUT]
    twice = write(tmp_path / "twice", [*HELD_OUT, *copies])
    once = audit(given.model, *two(given))
    said = audit(given.model, "--members", given.members, "--held-out", twice)
    assert said.answer["findings"] == once.answer["findings"]


@pytest.mark.parametrize(
    ("splits", "refusal"),
    [
        (None, (2, "have no metadata/subject_splits.parquet")),
        (
            {"subject_id": [1000, 1001], "split": ["train", "train"]},
            (3, "nobody in train, or nobody in held_out"),
        ),
        ({"subject_id": [1000, 1000], "split": ["train", "held_out"]}, (2, "a person in two splits")),
        ({"subject_id": ["1000"], "split": ["train"]}, (2, "not MEDS' table")),
        ({"subject_id": [1000, None], "split": ["train", "held_out"]}, (2, "not MEDS' table")),
        ({"person": [1000]}, (2, "not MEDS' table")),
    ],
)
def test_splits_that_are_missing_or_wrong(splits, refusal, given, audit, tmp_path):
    code, problem = refusal
    said = audit(given.model, "--records", write(tmp_path / "whole", MEMBERS, splits))
    assert (said.code, problem in said.error) == (code, True), said.error


def test_splits_that_are_no_parquet(given, audit, tmp_path):
    whole = write(tmp_path / "whole", MEMBERS, {"subject_id": [1], "split": ["train"]})
    (whole / "metadata" / "subject_splits.parquet").write_bytes(b"PAR1, or so")
    assert "not MEDS' table" in audit(given.model, "--records", whole).error


def test_a_vocabulary_that_lacks_the_codes(given, audit, tmp_path):
    def foreign(rows, name):
        return write(tmp_path / name, [(person, time, f"OTHER/{code}") for person, time, code in rows])

    said = audit(given.model, "--members", foreign(MEMBERS, "m"), "--held-out", foreign(HELD_OUT, "h"))
    assert (said.code, "knows none of the codes" in said.error) == (3, True)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--members", "m"),
        ("--held-out", "h"),
        ("--records", "r", "--members", "m"),
        ("--records", "r", "--reference", "x"),
        ("--site", "north", "--records", "r"),
        ("--site", "north", "--plan", "p"),
    ],
)
def test_options_that_do_not_go_together(arguments, given, audit):
    assert audit(given.model, *arguments).code == 2


def test_an_output_that_is_something_else_is_not_overwritten(given, audit, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert audit(given.model, *two(given), "-o", tmp_path / "thesis.txt").code == 2
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def damaged(given, folder, change):
    folder.mkdir()
    for file in given.model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    change(folder)
    return folder


def configured(**changes):
    def change(folder):
        value = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(value))

    return change


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"weights": torch.zeros(1)}, folder / "pytorch_model.bin")


def weighed(change):
    def changed(folder):
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return changed


def cut(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def coded(**changes):
    codes = {"format": "oathbound/codes/v1", "tokens": TOKENS, "unknown": 3} | changes
    return lambda folder: (folder / "vocabulary.json").write_text(json.dumps(codes))


def written(name, text):
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (written("config.json", "{}"), "neither a model folder of oathbound nor of Hugging Face"),
        (written("config.json", "[" * 100_000), "not JSON"),
        (written("config.json", "{" + " " * 9_000_000 + "}"), "larger than"),
        (configured(model_type="bert"), "causal language model|larger model"),
        (configured(model_type="no-such-model"), "causal language model"),
        (configured(quantization_config={"quant_method": "gptq"}), "quantization_config"),
        (configured(attn_implementation="someone/kernels"), "attn_implementation"),
        (written("adapter_config.json", "{}"), "an adapter"),
        (pickled, "pickled weights alone"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
        (cut, "not whole"),
        (weighed(lambda weights: weights.pop("transformer.ln_f.bias")), "the weights|larger model"),
        (weighed(lambda weights: weights["transformer.ln_f.bias"].fill_(torch.nan)), "not finite"),
        (configured(n_embd=4096), "larger model"),
        (configured(n_layer=10**9), "larger model"),
        (configured(n_layer=1), "the weights"),
        (configured(bos_token_id=None), "bos_token_id"),
        (configured(eos_token_id=1), "two tokens"),
        (configured(eos_token_id=5), "no code's"),
        (configured(n_positions=4000), "larger model"),
        (lambda folder: (folder / "vocabulary.json").unlink(), "no file vocabulary.json"),
        (written("vocabulary.json", "[]"), "not a JSON object"),
        (coded(format="oathbound/codes/v9"), "no format"),
        (coded(tokens={}), "tokens"),
        (coded(tokens={"A": 4, "B": 4}), "one token"),
        (coded(tokens={"A": 4000}), "tokens that the model does not know"),
        (coded(tokens={"A": "4"}), "tokens"),
        (written("vocabulary.json", '{"format": "oathbound/codes/v1", "tokens": {"A": 4, "A": 5}}'), "twice"),
        (
            written("model.safetensors.index.json", '{"weight_map": {"a": "../../x.safetensors"}}'),
            "names a file",
        ),
    ],
)
def test_a_folder_that_is_no_model_that_can_be_read(change, problem, given, audit, tmp_path):
    said = audit(damaged(given, tmp_path / "model", change), *two(given))
    assert said.code == 2, (said.code, said.error, said.answer)
    assert any(word in said.error for word in problem.split("|")), said.error
    assert not (tmp_path / "audits.jsonl").exists()


def test_a_model_that_sees_what_comes_later_is_not_measured(given, audit, tmp_path):
    config = transformers.BertConfig(
        vocab_size=24,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=LENGTH,
        **SPECIAL,
    )
    torch.manual_seed(1)
    model = transformers.BertLMHeadModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
    said = audit(save(model, tmp_path / "model"), *two(given))
    assert said.code == 13
    assert all("not coherent" in finding["outcome"]["reason"] for finding in said.answer["findings"])


def test_a_folder_that_is_not_there(given, audit, tmp_path):
    assert audit(tmp_path / "nothing", *two(given)).code == 2
    assert audit(given.model, "--members", tmp_path / "nothing", "--held-out", given.held_out).code == 2


LADDER = """
format = "oathbound/audit-plan/v1"
alpha = "0.05"
minimum_patients = 20

[sensitive]
name = "two codes that nothing foretells"
codes = ["CODE//S", "CODE//T"]
implied_by = []
prompt_events = 2
horizon = 20
chains = 4
ladder = ["nothing", "codes-1", "codes-2"]

[trajectories]
prompt_events = 2
horizon = 10
chains = 2

[groups]
rare = 30
"""


def test_an_audit_that_was_stopped_goes_on_and_ends_as_one_that_was_not(given, audit, tmp_path, monkeypatch):
    (tmp_path / "plan.toml").write_text(LADDER)
    asked = (given.model, *two(given), "--plan", tmp_path / "plan.toml", "-o")
    whole = audit(*asked, tmp_path / "whole.json")
    keep, kept = Answers.keep, []

    def full(self, name, answer):
        if len(kept) == 3:
            raise Halted("answers cannot be kept: No space left on device")
        kept.append(name)
        keep(self, name, answer)

    monkeypatch.setattr(Answers, "keep", full)
    halted = audit(*asked, tmp_path / "findings.json")
    assert halted.code == 4, "a full disk is no finding about a model"
    assert not (tmp_path / "findings.json").exists()
    assert (tmp_path / f"{ANSWERS}-findings.json").read_bytes().count(b"\n") == 3
    asked_anew = []
    monkeypatch.setattr(
        Answers, "keep", lambda self, name, answer: (asked_anew.append(name), keep(self, name, answer))
    )
    again = audit(*asked, tmp_path / "findings.json", "--processes", "2")
    assert again.code == 13
    assert again.answer["findings"] == whole.answer["findings"]
    assert asked_anew
    assert not set(asked_anew) & set(kept), "what was answered is not asked again"
    assert not list(tmp_path.glob(".audit-*"))
    assert (tmp_path / "findings.json").read_text() == (tmp_path / "whole.json").read_text()


def test_a_price_is_said_before_an_audit_and_nothing_of_what_is_found(given, audit, tmp_path):
    (tmp_path / "plan.toml").write_text(LADDER)
    said = audit(given.model, *two(given), "--plan", tmp_path / "plan.toml", verb="check")
    assert said.code == 0
    prices = {each["test"]: each for each in said.answer["tests"]}
    assert prices["sensitive-disclosure"]["tokens"] > prices["membership"]["tokens"] > 220 * 5
    assert "names no attributes" in prices["attribute-inference"]["reason"]
    assert not {"estimate", "measures", "outcome"} & set(json.dumps(said.answer).replace('"', " ").split())
    assert not list(tmp_path.glob("audits*"))
    spent = audit(given.model, *two(given), "--plan", tmp_path / "plan.toml").answer["findings"]
    (disclosed,) = (each for each in spent if each["test"] == "sensitive-disclosure")
    foreseen = prices["sensitive-disclosure"]["tokens"]
    assert 0.4 * foreseen <= disclosed["outcome"]["tokens"] <= 3 * foreseen  # findings say a power of two


def test_what_cannot_be_priced_is_said(given, audit, tmp_path):
    for arguments, code in (
        ((given.model, "--plan", tmp_path / "plan.toml"), 2),
        (("https://host/v1", *two(given)), 2),
        ((tmp_path / "nowhere", *two(given)), 2),
        ((given.model, "--members", given.members), 2),
    ):
        (tmp_path / "plan.toml").write_text(LADDER)
        assert audit(*arguments, verb="check").code == code
    other = write(tmp_path / "other", [(n + 8000, t, f"X//{c}") for n, t, c in MEMBERS])
    more = write(tmp_path / "more", [(n + 8000, t, f"X//{c}") for n, t, c in HELD_OUT])
    said = audit(given.model, "--members", other, "--held-out", more, verb="check")
    assert (said.code, "knows none of the codes" in said.error) == (3, True)
