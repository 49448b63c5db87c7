"""Train as the coordinator, in a process that may open no site's folder. A program, not a test.

    coordinate.py STUDY [--kill SITE KIND ATTEMPT] [--die STEP]

`--kill` kills a site's process when it gets the message of that kind of an attempt; `--die` kills this one
after a step. It prints one JSON object: the steps and attempts, and the sites' processes.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from oathbound.train.engines.processes import Process
from oathbound.workflow.folders import StudyFolder
from oathbound.workflow.reaching import reached
from oathbound.workflow.train import train

EVENTS = {"open", "os.listdir", "os.scandir", "sqlite3.connect", "os.mkdir"}


def refuse_folders(folder: Path) -> None:
    """End this process, with a word, where it opens a file below the folder."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in EVENTS and str(arguments[0]).startswith(f"{folder}/"):
            sys.stderr.write(f"the coordinator's process opens {arguments[0]}\n")
            os._exit(70)

    sys.addaudithook(hook)


@dataclass
class Killing:
    """A site's process, killed when it gets one message."""

    process: Process
    kind: str
    attempt: int
    heard: int = 0

    def receive(self, message: bytes) -> bytes:
        if message.split(b"\n", 1)[0].endswith(f"/{self.kind}/v1".encode()):
            self.heard += 1
            if self.heard == self.attempt:
                os.kill(self.process.pid, signal.SIGKILL)
        return self.process.receive(message)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("study", type=Path)
    parser.add_argument("--kill", nargs=3, default=("", "", "0"))
    parser.add_argument("--die", type=int, default=0)
    asked = parser.parse_args()
    refuse_folders(asked.study / "sites")
    site, kind, attempt = asked.kill
    pids: dict[str, int] = {}

    @contextlib.contextmanager
    def by(study, clock):
        with reached(study, clock) as sites:
            pids.update({name: process.pid for name, process in sites.peers.items()})
            peers = dict(sites.peers)
            if site:
                peers[site] = Killing(peers[site], kind, int(attempt))
            yield replace(sites, peers=peers)

    def watch(step: int, *_: object) -> None:
        if step == asked.die:
            sys.stdout.write(json.dumps({"pids": pids}) + "\n")
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    trained = train(StudyFolder.open(asked.study), clock=lambda: int(time.time()), watch=watch, by=by)
    said = {"steps": trained.steps, "attempts": trained.attempts, "pids": pids}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
