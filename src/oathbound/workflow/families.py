"""The policy's model and encoder: those that oathbound has, or those that a pinned extension brings."""

from pathlib import Path

from oathbound.core.errors import NotAcceptable
from oathbound.core.shape import ExtensionModel, Seen
from oathbound.core.study import Policy
from oathbound.models import family, folder
from oathbound.models.family import Family
from oathbound.models.folder import LoadedModel
from oathbound.workflow.extensions import load


def family_of(policy: Policy) -> Family:
    """Return a new model of the policy, with its first weights, and its encoder.

    Raises what `extensions.load` raises where an extension should bring them.
    """
    if not isinstance(policy.model, ExtensionModel):
        return family.family_of(policy)
    make: family.Maker = load(policy, "models", policy.model.name)
    return make(policy.model, policy.seen)


def read_model(path: Path, policy: Policy) -> LoadedModel:
    """Return the model in the folder `path`; one that an extension brings only if it is of this policy.

    Raises what `models.folder.read_model` and `extensions.load` raise.
    """

    def make(architecture: ExtensionModel, seen: Seen) -> Family:
        if (architecture, seen) != (policy.model, policy.seen):
            raise NotAcceptable(f"{path} is not a model of this study")
        return family_of(policy)

    return folder.read_model(path, make)
