"""A site's part in training, without input or output: bytes in, bytes out.

`spec/training.md` numbers the steps.
"""

from dataclasses import dataclass

from oathbound.train.messages import STEP_MAGIC, Step
from oathbound.train.secure_sum.client import Client
from oathbound.train.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Node:
    """One site: computes its share of each step, and sends it masked, as a part of a secure sum."""

    trainer: Trainer
    client: Client

    def receive(self, message: bytes) -> bytes:
        """Return this site's answer to a message of the coordinator; it may be empty.

        Raises `ProtocolRefused` for a message that is malformed, out of order, or of another run, plan or
        model, and `BudgetRefused` for an attempt that the plan does not have. What cannot be summed is not
        charged; once an attempt is charged it stays so, whatever happens next.
        """
        if not message.startswith(STEP_MAGIC):
            return self.client.receive(message)
        step, announcement = Step.decode(message, self.trainer.plan.dimension)  # 1
        checked = self.trainer.check(step)  # 2 to 4
        self.client.begin(announcement, step=step.label)  # 5
        return bytes(self.client.mask(self.trainer.share(checked)))  # 6 to 10
