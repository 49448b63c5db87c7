"""`report`: a page about what a bundle proves, written only if the bundle verifies."""

from pathlib import Path

from oathbound.core.canonical import digest
from oathbound.evidence.trust import Trust
from oathbound.evidence.verify import Verified, verify
from oathbound.report.page import render
from oathbound.workflow.folders import check_out, write_file


def write_report(bundle: bytes, trust: Trust, out: Path, *, now: int) -> Verified:
    """Verify the bundle, write the page to `out`, and return what was verified."""
    check_out(out, b"<!DOCTYPE html>")
    verified = verify(bundle, trust, at=now)
    write_file(out, render(verified, bundle_digest=digest(bundle)).encode())
    return verified
