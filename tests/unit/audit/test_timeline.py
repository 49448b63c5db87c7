"""What tokens say is learnt from the tokenizer alone, and agrees with what it knows of itself."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pytest

from oathbound.audit.adapters.codes import CodeMap, PlainCodes
from oathbound.audit.timeline import NO_GAP, lexicon_of
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import Vocabulary
from oathbound.models.tokenizer import Tokenizer

FIRST = dt.datetime.fromisoformat("2010-01-01")  # MEDS has no zone
EDGES = (Decimal(1), Decimal(7), Decimal(365))
TOKENIZER = Tokenizer(
    Vocabulary(codes=("A", "B", "GENDER//F"), edges={"B": (Decimal(5),)}, ages=(Decimal(40),), gaps=EDGES)
)
RECORD = Patient(
    1,
    (
        Event(None, "GENDER//F", None),
        Event(FIRST - dt.timedelta(days=20_000), "MEDS_BIRTH", None),
        Event(FIRST, "A", None),
        Event(FIRST, "B", 6.0),
        Event(FIRST + dt.timedelta(days=3), "unheard of", None),
        Event(FIRST + dt.timedelta(days=400), "A", None),
    ),
)


class Speaks:
    """A codebook as a target: what the lexicon may ask, and nothing more."""

    tokens_pushed = 0
    length = 64

    def __init__(self, codebook):
        self.eos, self.size, self.codebook = codebook.eos, codebook.size, codebook

    def tokenize(self, patient):
        return self.codebook.encode(patient, self.length)

    def tokens_of(self, code):
        return self.codebook.tokens_of(code)


@pytest.fixture
def lexicon():
    return lexicon_of(Speaks(TOKENIZER), [RECORD])


def test_the_gap_tokens_are_those_that_the_tokenizer_means(lexicon):
    found = {name: lexicon.hours[token] for token, name in enumerate(TOKENIZER.names)}
    lower = {"GAP//<1": 0, "GAP//1..7": 24, "GAP//7..365": 7 * 24, "GAP//>=365": 365 * 24}
    assert {name for name, hours in found.items() if not np.isnan(hours)} == set(lower)
    for name, edge in lower.items():
        assert edge <= found[name] <= edge * 8 / 7 + 1 / 60


def test_codes_and_value_bins_have_paths(lexicon):
    names = {TOKENIZER.names[token]: path for token, path in lexicon.paths.items()}
    assert names["A"] == ("A",)
    assert names["GENDER//F"] == ("GENDER", "F")
    bins = [path for name, path in names.items() if name.startswith("B//")]
    assert len(bins) == 3
    assert {path[0] for path in bins} == {"B"}
    assert len(set(bins)) == 3
    assert "UNK" not in names


def test_a_continuation_is_read_as_dated_events(lexicon):
    tokens = TOKENIZER.encode(RECORD, 64)
    read = lexicon.trajectory(tokens[3:])
    assert [TOKENIZER.names[token] for token in read.tokens] == ["A", "B//>=5", "UNK", "A"]
    assert [gap if gap == NO_GAP else TOKENIZER.names[gap] for gap in read.gaps] == [
        NO_GAP,
        NO_GAP,
        "GAP//1..7",
        "GAP//>=365",
    ]
    assert read.hours[:2].tolist() == [0, 0]
    assert 24 <= read.hours[2] < 28 < 365 * 24 <= read.hours[3]
    assert read.first(2).tokens.tolist() == read.tokens[:2].tolist()


def test_what_follows_eos_and_a_gap_before_nothing_are_left_out(lexicon):
    gap = TOKENIZER.names.index("GAP//1..7")
    event = TOKENIZER.names.index("A")
    assert len(lexicon.trajectory([])) == len(lexicon.trajectory([TOKENIZER.eos, event])) == 0
    assert lexicon.trajectory([event, gap, TOKENIZER.eos]).tokens.tolist() == [event]
    assert lexicon.trajectory([gap, gap, event]).hours[0] == pytest.approx(2 * lexicon.hours[gap])


def test_a_vocabulary_without_time_has_events_alone():
    codes = CodeMap(format="oathbound/codes/v1", tokens={"A": 3, "B": 4, "GENDER//F": 5})
    lexicon = lexicon_of(Speaks(PlainCodes(codes, bos=1, eos=2)), [RECORD])
    assert np.isnan(lexicon.hours).all()
    assert lexicon.trajectory([3, 4, 2]).hours.tolist() == [0, 0]
    assert set(lexicon.paths) == {3, 4, 5}
    silent = PlainCodes(CodeMap(format="oathbound/codes/v1", tokens={"Z": 3}), bos=1, eos=2)
    assert not lexicon_of(Speaks(silent), [RECORD]).paths
