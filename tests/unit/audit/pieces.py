"""What other processes do in the tests of pieces: they import it by its name."""

import os
import signal
from decimal import Decimal

import numpy as np

from oathbound.audit.adapters.own import EventTarget
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
