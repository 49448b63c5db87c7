"""What a long verb tells a person."""

from oathbound.workflow.watch import AuditWatch


def test_an_audit_tells_its_tests_and_what_the_model_answered():
    told = []
    watch = AuditWatch(lambda *said: told.append(said))
    watch.begin("membership", 0, 2)
    watch.answer(again=True)
    watch.answer(again=False)
    watch.begin("trajectory-recall", 1, 2)
    assert told == [
        (0, 2, "membership 1/2"),
        (0, 2, "membership 1/2 · answers: 1, 1 from before"),
        (0, 2, "membership 1/2 · answers: 2, 1 from before"),
        (1, 2, "trajectory-recall 2/2"),
    ]
