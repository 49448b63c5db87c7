"""What a process that ran oathbound says to the script that started it: one number, never reused."""

from enum import IntEnum
from typing import Self


class Exit(IntEnum):
    """Exit codes. `meaning` is the sentence that documents show; a test compares them."""

    meaning: str

    DONE = 0, "done, and the answer is yes"
    UNFORESEEN = 1, "an error nobody foresaw"
    WRONG_INPUT = 2, "the command line, the study file or an input file is wrong or unreadable"
    NOTHING = 3, "nothing was examined: no records admitted, no tests, no bundle"
    UNAVAILABLE = (
        4,
        "unavailable here: no engine, no accelerator, no enclave, no network, disk full, folder locked",
    )
    REFUSED = 5, "refused by consent or budget before the next use of records"
    NOT_AUTHENTIC = 10, "not authentic: digest, signature, log proof, quote chain"
    NOT_ACCEPTABLE = 11, "authentic, and not what the policy asks"
    GATE_FAILED = 12, "a gate failed"
    INCONCLUSIVE = 13, "no gate failed, and at least one is inconclusive or did not run"
    INTERRUPTED = 130, "interrupted; what was done is kept"

    def __new__(cls, code: int, meaning: str) -> Self:
        """Attach the sentence to the number."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member
