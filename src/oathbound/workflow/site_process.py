"""One site in a process of its own: `python -P -m oathbound.workflow.site_process STUDY SITE`.

It opens the study file and the public keys in STUDY, and the site's folder; nothing of another site, and
nothing of the coordinator. Messages come on standard input, answers leave on standard output.
"""

import os
import signal
import sys
import time
from pathlib import Path

import torch

from oathbound.core.errors import OathboundError
from oathbound.train.engines.processes import serve
from oathbound.workflow.folders import StudyFolder
from oathbound.workflow.site import Site


def main(study: Path, name: str) -> int:
    """Answer the coordinator until it ends, and return the exit code."""
    # Ctrl-C is for the coordinator, which then ends this process; a print must not end up among the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        folder = StudyFolder.open(study)
        if folder.study.run.threads:
            torch.set_num_threads(folder.study.run.threads)
        site = folder.site(name)
        with Site.opened(site, folder.policy, folder.parties(), lambda: int(time.time())) as here:
            serve(here.receive, sys.stdin.buffer, answers)
    except OathboundError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return int(error.exit)
    except BrokenPipeError:
        return 0  # the coordinator has ended
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
