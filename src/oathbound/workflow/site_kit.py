"""What a site puts into its FLARE kit, so that jobs are data: `python -P -m oathbound.workflow.site_kit KIT`.

    KIT/local/authorization.json   nobody's job may bring code (`byoc`), and nobody gets a shell
    KIT/local/resources.json       the two classes that a job may name, and no log leaves the site

FLARE's own files, of the names with `.default` beside them, allow more: the first lets a job bring code, the
second sends the site's error log to the coordinator. `oathbound doctor` checks both.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from oathbound.core.errors import OathboundError, WrongInput
from oathbound.workflow.folders import read_file, write_file

SITE_CLASSES: Final = (
    "nvflare.collab.runtime.executor.CollabExecutor",
    "oathbound.workflow.flare.SiteApp",
)
"""All that a site lets a job name."""

COORDINATOR_CLASSES: Final = (
    "nvflare.collab.runtime.controller.CollabController",
    "oathbound.workflow.flare.CoordinatorApp",
)

_RULES: Final = {
    "submit_job": "any",
    "clone_job": "none",
    "manage_job": "any",
    "download_job": "any",
    "view": "any",
    "operate": "any",
    "byoc": "none",
    "shell_commands": "none",
}
_ROLES: Final = ("project_admin", "org_admin", "lead")
AUTHORIZATION: Final[dict[str, Any]] = {
    "format_version": "1.0",
    "permissions": dict.fromkeys(_ROLES, _RULES) | {"member": {"view": "any"}},
}
_LOG_STREAMER: Final = "nvflare.app_common.logging."


def write_kit(kit: Path, classes: tuple[str, ...] = SITE_CLASSES) -> list[Path]:
    """Write both files into a kit's `local` folder, and return them. FLARE reads them when it starts.

    Raises `WrongInput` where the folder is no kit of FLARE's.
    """
    local = kit / "local"
    resources = read_json(local / "resources.json.default")
    if not isinstance(resources.get("components"), list):
        raise WrongInput(
            f"{local / 'resources.json.default'} lists no components", hint="is this FLARE's kit?"
        )
    resources["components"] = [each for each in resources["components"] if not _streams(each)]
    resources |= {
        "class_list_enforcement_mode": "enforce",
        "class_allow_list": list(classes),
        "allow_log_streaming": False,
    }
    written = {"authorization.json": AUTHORIZATION, "resources.json": resources}
    for name, content in written.items():
        write_file(local / name, (json.dumps(content, indent=2) + "\n").encode())
    return [local / name for name in written]


def wrong_in_authorization(authorization: Mapping[str, Any]) -> list[str]:
    """Return where an authorization.json is another than the kit's.

    FLARE reads names in any case and with spaces around them, has a name for every role, and lets a single
    right override its category. That reading is not repeated here: what is not as it was written is wrong.
    """
    return _differences(authorization, AUTHORIZATION, "")


def _differences(found: object, kit: object, where: str) -> list[str]:
    if not (isinstance(found, Mapping) and isinstance(kit, Mapping)):
        return [] if found == kit else [f"{where} has {found!r}"]
    return [
        difference
        for key in sorted(found.keys() | kit.keys())
        for difference in _differences(
            found.get(key, "nothing"),
            kit.get(key, ()),  # which is nothing that JSON holds
            f"{where}/{key}",
        )
    ]


def wrong_in_resources(resources: Mapping[str, Any]) -> list[str]:
    """Return what in a resources.json lets a job name other classes, or sends logs away."""
    wrong = []
    listed = resources.get("class_allow_list")
    if not isinstance(listed, list):
        wrong.append("class_allow_list is missing: FLARE then allows all that it brings")
    else:
        more, less = (
            sorted(set(map(str, listed)) - set(SITE_CLASSES)),
            sorted(set(SITE_CLASSES) - set(listed)),
        )
        wrong += [f"class_allow_list lists {name}" for name in more]
        wrong += [f"class_allow_list does not list {name}" for name in less]
    if resources.get("class_list_enforcement_mode", "enforce") != "enforce":
        wrong.append("class_list_enforcement_mode is not enforce")
    components = resources.get("components", [])
    if resources.get("allow_log_streaming") is not False or any(map(_streams, components)):
        wrong.append("logs leave the site: allow_log_streaming must be false, with no log streamer")
    return wrong


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; `WrongInput` where there is none."""
    try:
        read = json.loads(read_file(path, hint="name the kit's folder, which holds startup/ and local/"))
    except (ValueError, RecursionError):
        raise WrongInput(f"{path} is not JSON") from None
    if not isinstance(read, dict):
        raise WrongInput(f"{path} is not a JSON object")
    return read


def _streams(component: object) -> bool:
    return isinstance(component, dict) and str(component.get("path", "")).startswith(_LOG_STREAMER)


def main(kit: Path) -> int:
    """Write the files, print their names, and return the exit code."""
    try:
        for path in write_kit(kit):
            sys.stdout.write(f"{path}\n")
    except OathboundError as error:
        sys.stderr.write(f"error: {error.message}\nhint: {error.hint}\n")
        return int(error.exit)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
