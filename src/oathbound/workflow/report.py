"""`report`: a page, or a section of a model card, about a bundle that verifies, or findings without one."""

from pathlib import Path
from typing import Final

from oathbound.core.canonical import MAX_JSON_BYTES, digest
from oathbound.core.errors import WrongInput
from oathbound.core.folder_audit import FolderAudit, read_folder_audit
from oathbound.evidence.bundle import read_bundle
from oathbound.evidence.trust import Trust
from oathbound.evidence.verify import Verified, verify
from oathbound.report.audit_page import render_audit
from oathbound.report.card import CARD, audit_card, study_card
from oathbound.report.page import render
from oathbound.workflow.folders import check_out, write_file

_OBJECT: Final = b"{"


def write_report(bundle: bytes, trust: Trust, out: Path, *, now: int) -> Verified:
    """Verify the bundle, write the page to `out`, and return what was verified."""
    check_page(out)
    verified = verify(bundle, trust, at=now)
    write_file(out, render(verified, bundle_digest=digest(bundle)).encode())
    return verified


def read_subject(path: Path, trust: Path | None, *, now: int) -> tuple[Verified | FolderAudit, str]:
    """Return what the file is about, and its digest: findings begin as JSON, all else must verify.

    Raises `WrongInput` for a bundle without trust, or findings with it, for nobody signed them; and what
    `verify` and `read_folder_audit` raise.
    """
    data = read_bundle(path)
    if data.startswith(_OBJECT):
        if trust is not None:
            raise WrongInput(
                f"{path} holds findings of no study, which nobody signed", hint="leave out --trust"
            )
        if len(data) > MAX_JSON_BYTES:
            raise WrongInput(f"{path} is larger than {MAX_JSON_BYTES} bytes")
        return read_folder_audit(data, what=str(path)), digest(data)
    if trust is None:
        raise WrongInput(
            "a bundle is verified before anything is said of it, which needs --trust FILE",
            hint="write the file from fingerprints that the sites told you: spec/trust.md",
        )
    return verify(data, Trust.load(trust), at=now), digest(data)


def page_of(subject: Verified | FolderAudit, its_digest: str) -> str:
    """Return the page as HTML text."""
    if isinstance(subject, Verified):
        return render(subject, bundle_digest=its_digest)
    return render_audit(subject, file_digest=its_digest)


def card_of(subject: Verified | FolderAudit, its_digest: str) -> str:
    """Return the section of a model card as Markdown text."""
    if isinstance(subject, Verified):
        return study_card(subject, bundle_digest=its_digest)
    return audit_card(subject, file_digest=its_digest)


def check_card(out: Path) -> None:
    """Refuse to write a card over anything but an earlier card: a model's README is its author's."""
    check_out(out, CARD.encode())


def check_page(out: Path) -> None:
    """Refuse to write a page over anything but an earlier page."""
    check_out(out, b"<!DOCTYPE html>")
