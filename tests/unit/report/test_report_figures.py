from decimal import Decimal
from xml.etree import ElementTree as ET

import pytest

from oathbound.core.claims import Claim, Verdict
from oathbound.report.figures import Scale, axis, interval, interval_text, signed, statistic

D = Decimal


def claim(state: Verdict = Verdict.PASS, site: str = "all sites", **numbers: Decimal) -> Claim:
    return Claim("membership", "auc", "loss", site, 1, D("0.55"), state, **numbers)


MEASURED = {"estimate": D("0.510"), "lower": D("0.490"), "upper": D("0.530")}


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        (["0.462", "0.55"], ["0.46", "0.48", "0.50", "0.52", "0.54", "0.56"]),
        (["0", "1"], ["0", "0.5", "1.0"]),
        (["-0.006", "0.011"], ["-0.010", "-0.005", "0", "0.005", "0.010", "0.015"]),
        (["0.3", "0.3"], ["0.3000", "0.3005"]),
    ],
)
def test_ticks_are_round_and_hold_every_value(values, ticks):
    assert Scale.over(map(D, values)).ticks == tuple(map(D, ticks))


@pytest.mark.parametrize("high", [D(n) / 7 for n in range(1, 60)])
def test_an_axis_has_room_for_its_labels(high):
    ticks = Scale.over([D(0), high]).ticks
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= 0
    assert high <= ticks[-1]


def test_positions_ascend_within_the_figure():
    scale = Scale.over([D("0.4"), D("0.6")])
    positions = [scale.at(tick) for tick in scale.ticks]
    assert positions == sorted(set(positions))
    assert (positions[0], positions[-1]) == (7, 93)


def lines(svg: str, kind: str) -> list[ET.Element]:
    return [e for e in ET.fromstring(svg).iter() if kind in e.get("class", "").split()]  # noqa: S314 - our own


def test_the_interval_is_drawn_from_its_lower_to_its_upper_end():
    scale = Scale.over([D("0.46"), D("0.56")])
    svg = interval(claim(**MEASURED), scale, chance=D("0.5"))
    (bar,), (gate,), (chance,) = lines(svg, "bar"), lines(svg, "gate"), lines(svg, "chance")
    assert bar.get("x1") == f"{scale.at(D('0.490'))}%"
    assert bar.get("x2") == f"{scale.at(D('0.530'))}%"
    assert gate.get("x1") == f"{scale.at(D('0.55'))}%"
    assert chance.get("x1") == f"{scale.at(D('0.5'))}%"


def test_a_claim_without_a_number_draws_the_gate_and_no_interval():
    svg = interval(claim(Verdict.INCONCLUSIVE), Scale.over([D("0.5"), D("0.6")]), chance=None)
    assert lines(svg, "gate")
    assert not lines(svg, "bar")
    assert not lines(svg, "mark")
    assert "not measured" in svg


def test_each_state_has_its_own_shape_and_words():
    scale = Scale.over([D("0.46"), D("0.56")])
    drawn = {state: interval(claim(state, **MEASURED), scale, chance=None) for state in Verdict}
    shapes = {
        ET.tostring(lines(svg, "mark")[0]).decode().replace(state.value, "") for state, svg in drawn.items()
    }
    titles = {ET.fromstring(svg).findtext("title") for svg in drawn.values()}  # noqa: S314 - our own
    assert len(shapes) == len(titles) == 3


def test_a_figure_escapes_what_it_names():
    svg = interval(claim(site='"><script>', **MEASURED), Scale.over([D("0.4"), D("0.6")]), chance=None)
    assert "<script" not in svg
    assert ET.fromstring(svg).findtext("title").endswith('at "><script>: within the gate')  # noqa: S314 - our own


def test_the_gate_has_its_label_inside_the_figure():
    scale = Scale.over([D("0"), D("1")])
    anchors = [
        lines(axis(scale, gate), "gate-label")[0].get("text-anchor") for gate in map(D, ("0", "0.5", "1"))
    ]
    assert anchors == ["start", "middle", "end"]


def test_numbers_get_their_zeros_back_and_are_never_rounded():
    assert signed(D("-0.010")) == "\N{MINUS SIGN}0.010"
    assert [statistic(D(n)) for n in ("0.51", "0", "-0.5", "0.54999")] == [
        "0.510",
        "0.000",
        "\N{MINUS SIGN}0.500",
        "0.54999",
    ]
    assert interval_text(claim(estimate=D("0.001"), lower=D("-0.006"), upper=D("0.020"))) == (
        "\N{MINUS SIGN}0.006 to 0.020"
    )
