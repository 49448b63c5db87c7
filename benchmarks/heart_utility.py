"""What the heart demo's privacy costs: held-out AUC of its private model, beside the same without privacy.

    python benchmarks/heart_utility.py [--draws N]

Each draw divides the 920 people anew, at random, into as many members as the policy plans and the rest, and
trains by the plan of the template, sampling, clipping, ring and noise shares as in a run. Labels of held-out
patients are read here, and nothing of them is released: the demo itself shows no such number.
"""

import argparse
import platform
import tomllib
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
import torch

from oathbound.audit.statistics import delong
from oathbound.core.canonical import digest
from oathbound.core.study import Policy, Study
from oathbound.data.heart import SITES, open_heart
from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.hazmat.random import bernoulli
from oathbound.models.family import family_of
from oathbound.models.features import FeatureEncoder
from oathbound.models.model import flat, load_flat
from oathbound.train.adam import Adam
from oathbound.train.clip import clipped_sum, unclipped_sum
from oathbound.train.plan import Plan


def policy_of(template: str) -> Policy:
    """Return the policy of a template, with parties who have no keys."""
    tables = "".join(
        f'[[policy.sites]]\nname = "{name}"\nfingerprint = "{digest(name.encode())}"\n\n' for name in SITES
    )
    text = Template((files("oathbound.workflow") / "templates" / template).read_text()).substitute(
        study="heart", coordinator=digest(b"coordinator"), sites=tables, folder="sites"
    )
    return Study.of(tomllib.loads(text)).policy


def trained(policy: Policy, members: np.ndarray, *, private: bool) -> torch.nn.Module:
    """Return the policy's model, trained on these rows by its plan, with or without its privacy."""
    model = family_of(policy).model
    first = flat(model)
    plan = Plan.of(policy, first.size)
    noise = DiscreteGaussian(plan.privacy.share_sigma)
    adam = Adam.at(first)
    for step in range(1, policy.training.steps + 1):
        load_flat(model, adam.weights)
        some = members[bernoulli(policy.training.sampling_rate, len(members))]
        if private:
            clip, norm = float(policy.training.clip), policy.training.ring_norm
            total = clipped_sum(model, some, clip=clip, ring_norm=norm)
            total += sum(noise.sample(first.size) for _ in policy.sites)
        else:
            total = unclipped_sum(model, some, scale=plan.scale, saturation=plan.saturation)
        gradient = (total / (plan.scale * plan.divisor)).astype(np.float32)
        adam = adam.stepped(gradient, step=step, rate=plan.learning_rate(step))
    load_flat(model, adam.weights)
    return model


def area(model: torch.nn.Module, rows: np.ndarray) -> float:
    """Return the AUC of the model's odds for the label."""
    with torch.inference_mode():
        odds = model(torch.from_numpy(rows[:, :-1])).double().numpy()
    ill = rows[:, -1] == 1
    return delong(odds[ill], odds[~ill])[0]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=20)
    draws = parser.parse_args().draws
    torch.set_num_threads(1)
    policy = policy_of("demo-heart-private.toml")
    encoder = FeatureEncoder(policy.features)
    rows = {site: encoder.encode_columns(open_heart({"site": site}, Path()).events)[1] for site in SITES}
    everybody, site = (
        np.concatenate(list(rows.values())),
        np.repeat(list(rows), [len(r) for r in rows.values()]),
    )
    plan = Plan.of(policy, family_of(policy).encoder.size + 1)
    print(f"python {platform.python_version()}, torch {torch.__version__}; {draws} draws of")
    print(f"{policy.training.members} members of {len(everybody)}; {policy.training.steps} steps; ", end="")
    print(f"epsilon {plan.price()} at delta {policy.budget.delta}, noise of {len(policy.sites)} sites")
    areas = {(private, name): [] for private in (False, True) for name in ("all sites", *SITES)}
    generator = np.random.default_rng(0)
    for _ in range(draws):
        order = generator.permutation(len(everybody))
        members, others = order[: policy.training.members], order[policy.training.members :]
        for private in (False, True):
            model = trained(policy, everybody[members], private=private)
            for name in ("all sites", *SITES):
                of_site = others if name == "all sites" else others[site[others] == name]
                areas[private, name].append(area(model, everybody[of_site]))
    print(f"\n{'held-out AUC':<14}{'without privacy':>18}{'private':>18}")
    for name in ("all sites", *SITES):
        shown = (f"{np.mean(areas[p, name]):.3f} ± {np.std(areas[p, name]):.3f}" for p in (False, True))
        print(f"{name:<14}" + "".join(f"{text:>18}" for text in shown))


if __name__ == "__main__":
    main()
