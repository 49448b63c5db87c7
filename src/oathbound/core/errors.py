"""Every way oathbound refuses, as one tree.

    OathboundError                 never raised itself
    ├── WrongInput            2    a command line, study, key, record or model file is wrong or unreadable
    ├── NothingExamined       3    an empty cohort, no gates, no tests
    ├── Unavailable           4    not possible on this machine, now
    │   └── Halted                 work that goes on when the machine is mended
    ├── Refused               5    consent, budget or policy says no, before records are used
    │   ├── ConsentRefused
    │   ├── BudgetRefused          facts: `needed`, `allowed`
    │   └── ProtocolRefused        a message that breaks the training protocol
    ├── Interrupted         130    somebody pressed Ctrl-C
    ├── NotAuthentic         10    facts: `step` of `verify`
    └── NotAcceptable        11    facts: `step` of `verify`

An error speaks to a person: one sentence, and a hint that says what to do. It never carries a patient's
identifier, a value of a record, or a count below the policy's minimum.
"""

from typing import ClassVar

from oathbound.core.exits import Exit


class OathboundError(Exception):
    """The root of the tree. `exit` is the process's exit code; `hint` is what a person can do about it."""

    exit: ClassVar[Exit] = Exit.UNFORESEEN

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class WrongInput(OathboundError):
    """A command line, study file, key, record or model file is wrong or unreadable."""

    exit = Exit.WRONG_INPUT


class NothingExamined(OathboundError):
    """There was nothing to examine; nothing empty passes."""

    exit = Exit.NOTHING


class Unavailable(OathboundError):
    """It cannot be done on this machine, now."""

    exit = Exit.UNAVAILABLE


class Halted(Unavailable):
    """The machine failed in the middle of work: no answer about a model, and what was done is kept."""


class Refused(OathboundError):
    """A rule that protects patients says no, before records are used again."""

    exit = Exit.REFUSED


class ConsentRefused(Refused):
    """No consent allows this use."""


class BudgetRefused(Refused):
    """The next use would break a budget. `needed` and `allowed` are epsilons, or attempts, as text."""

    def __init__(self, message: str, *, needed: str, allowed: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.needed = needed
        self.allowed = allowed


class ProtocolRefused(Refused):
    """A message that the training protocol forbids: replayed, out of order, or for another plan or model."""


class Interrupted(OathboundError):
    """Somebody asked the process to stop; what was done is kept."""

    exit = Exit.INTERRUPTED


class _VerifyError(OathboundError):
    """`step` is the number of the step of `spec/verify.md` that refused; 0 outside `verify`."""

    def __init__(self, message: str, *, step: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.step = step


class NotAuthentic(_VerifyError):
    """A digest, signature, log proof or file format does not hold."""

    exit = Exit.NOT_AUTHENTIC


class NotAcceptable(_VerifyError):
    """Authentic evidence that is not what the policy, or the verifier, asks for."""

    exit = Exit.NOT_ACCEPTABLE
