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
        (0, 2, "membership, test 1 of 2"),
        (0, 2, "membership, test 1 of 2 · answers: 1, kept by an earlier run: 1"),
        (0, 2, "membership, test 1 of 2 · answers: 2, kept by an earlier run: 1"),
        (1, 2, "trajectory-recall, test 2 of 2"),
    ]
