"""Classifiers over a row of features: a perceptron and, without hidden layers, logistic regression."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from oathbound.core import shape
from oathbound.core.shape import TabularNet
from oathbound.models.model import Model, fill_uniform


class Classifier(Model):
    """The log-odds that a patient's label is 1. A row is float32: the features, then the label, or NaN."""

    together = 64

    def __init__(self, architecture: shape.Classifier, width: int) -> None:
        super().__init__()
        self.architecture = architecture
        hidden = architecture.hidden if isinstance(architecture, TabularNet) else ()
        self.layers = nn.ModuleList(nn.Linear(into, out) for into, out in pairwise((width, *hidden, 1)))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (..., width) to log-odds (...)."""
        x = features
        for number, layer in enumerate(self.layers):
            x = layer(functional.gelu(x, approximate="tanh") if number else x)
        return x.squeeze(-1)

    def losses(self, rows: Tensor) -> Tensor:
        """Return -log P(label | features), in nats, shape (...); 0 where there is no label to learn."""
        odds, label = self(rows[..., :-1]), rows[..., -1]
        known = ~label.isnan()
        losses = functional.binary_cross_entropy_with_logits(
            odds, torch.where(known, label, 0.0), reduction="none"
        )
        return torch.where(known, losses, 0.0)


def build(architecture: shape.Classifier, width: int) -> Classifier:
    """Return the classifier of `width` features with its first weights.

    They are zero, but for a perceptron's matrices: uniform of variance 1 / inputs, fixed by its seed.
    """
    model = Classifier(architecture, width)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    if isinstance(architecture, TabularNet):
        matrices = (parameter for parameter in model.parameters() if parameter.dim() > 1)
        fill_uniform(((matrix, matrix.shape[1] ** -0.5) for matrix in matrices), seed=architecture.seed)
    return model
