"""What other processes do in the tests of pieces: they import it by its name."""

import os
import signal
import sys
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import torch

from oathbound.audit.adapters.own import EventTarget
from oathbound.audit.work import Machine, each, working
from oathbound.core.errors import WrongInput
from oathbound.core.shape import EventTransformer as Shape
from oathbound.core.shape import Vocabulary
from oathbound.models.tokenizer import Tokenizer
from oathbound.models.transformer import build

TOKENIZER = Tokenizer(
    Vocabulary(codes=tuple(f"C{i}" for i in range(8)), edges={}, ages=(Decimal(50),), gaps=())
)
FIRST = TOKENIZER.size - 8


def opened():
    shape = Shape(name="event-transformer", layers=1, width=16, heads=2, length=12, seed=3)
    return EventTarget(build(shape, TOKENIZER.size), TOKENIZER)


MODEL = "sha256:" + "0" * 64


def opened_with_digest(digest=MODEL):
    return opened(), digest


def echo(target, tokens, number):
    return (np.array([float(number % 10), len(tokens), target.size]),)


def refusing(target, number):
    if number == 3:
        raise WrongInput("the model said nonsense", hint="ask another")
    target.tokens_pushed += 10
    return (np.full((1, 2), float(number)),)


def dying(_target, number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return (np.full(1, float(number)),)


def full(_target, number):
    if number == 1:
        raise torch.OutOfMemoryError
    return (np.full(1, float(number)),)


def deaf(_target, _number):
    """Whether an interruption waits: in a process of a pool this thread's mask is what it began with."""
    return (np.full(1, float(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))),)


def patient(_target, seconds):
    time.sleep(seconds)
    return (np.full(1, float(os.getpid())),)


def audit_until_killed(folder):
    """Have two processes say who they are, and then work on."""
    target = opened()
    machine, arguments = Machine(processes=2), ()
    with working(target, MODEL, keep=folder, machine=machine, opener=opened_with_digest, arguments=arguments):
        for (who,) in each(target, patient, [(0.5,), (0.5,), (600,), (600,), (600,), (600,)]):
            print(int(who[0]), flush=True)


if __name__ == "__main__":
    audit_until_killed(Path(sys.argv[1]))
