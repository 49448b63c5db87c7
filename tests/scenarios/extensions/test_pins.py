import os
import shutil
import sys
from pathlib import Path

import pytest

from oathbound.core.errors import NotAcceptable, Unavailable, WrongInput
from oathbound.workflow.extensions import (
    check_extensions,
    digest_of_distribution,
    installed,
    load,
)


def digest_in(folder, monkeypatch, name):
    with monkeypatch.context() as path:
        path.syspath_prepend(folder)
        return digest_of_distribution(name)


def added(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"")


def test_what_a_policy_pins_is_loaded(fake, pinning):
    fake("ext-right")
    policy = pinning("ext-right")
    check_extensions(policy)
    assert "ext_right" not in sys.modules
    assert load(policy, "models", "ext-right")() == "made"


def test_what_installation_varies_is_not_in_the_digest(fake, tmp_path, monkeypatch):
    one = fake("ext-varied", more=("../../bin/script", "bin/other", "ext_varied/data.txt"))
    (one.package / "data.txt").write_text("data")
    expected = digest_of_distribution("ext-varied")
    assert expected[0] == "1.0"
    for name in ("INSTALLER", "REQUESTED", "direct_url.json", "METADATA", "RECORD"):
        with (one.metadata / name).open("a") as file:
            file.write("ext_varied/__init__.py,sha256=other,1\n" if name == "RECORD" else "\n")
    (one.package / "__pycache__").mkdir()
    for name in (
        "__init__.cpython-311.pyc",
        "__init__.cpython-311.opt-1.pyc",
        "__init__.cpython-311.pyc.140",
    ):
        (one.package / "__pycache__" / name).write_bytes(b"bytecode")
    (one.folder / "bin").mkdir()
    (one.folder / "bin" / "other").write_text("#!/usr/bin/python")
    (one.folder / "ext_other").mkdir()
    (one.folder / "ext_other" / "__init__.py").write_text("")
    assert digest_of_distribution("ext-varied") == expected
    shutil.copytree(one.folder, tmp_path / "elsewhere")
    assert digest_in(tmp_path / "elsewhere", monkeypatch, "ext-varied") == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda ext: (ext.package / "__init__.py").write_text("def make(): return 'nade'\n"),
        lambda ext: (ext.package / "__init__.cpython-311-x86_64-linux-gnu.so").write_bytes(b"ELF"),
        lambda ext: (ext.package / "unlisted.py").write_text(""),
        lambda ext: (ext.package / "sourceless.pyc").write_bytes(b""),
        lambda ext: added(ext.package / "__pycache__" / "impl.py"),
        lambda ext: added(ext.package / "__pycache__" / "impl.pyc"),
        lambda ext: added(ext.package / "__pycache__" / "deeper" / "impl.cpython-311.pyc"),
        lambda ext: added(ext.folder / "bin" / "impl.py"),
        lambda ext: added(ext.folder / "bin" / "impl.abi3.so"),
        lambda ext: added(ext.folder / "bin" / "impl.pyc"),
        lambda ext: added(ext.folder / "bin" / "deeper" / "data.txt"),
        lambda ext: (ext.package / "data.txt").write_text("other data"),
        lambda ext: (ext.package / "data.txt").unlink(),
        lambda ext: (ext.metadata / "entry_points.txt").write_text(
            (ext.metadata / "entry_points.txt").read_text().replace(":make", ":load")
        ),
    ],
)
def test_other_code_is_not_acceptable_and_not_imported(fake, pinning, change):
    ext = fake("ext-changed", more=("ext_changed/data.txt", "bin/script"))
    (ext.package / "data.txt").write_text("data")
    policy = pinning("ext-changed")
    change(ext)
    for use in (check_extensions, lambda policy: load(policy, "models", "ext-changed")):
        with pytest.raises(NotAcceptable, match=r"digest sha256:.* not sha256:"):
            use(policy)
    assert "ext_changed" not in sys.modules


@pytest.mark.parametrize("change", [{"version": "1.1"}, {"digest": "sha256:" + 64 * "0"}])
def test_another_version_or_digest_is_not_acceptable(fake, pinning, change):
    fake("ext-pinned")
    with pytest.raises(NotAcceptable, match=next(iter(change))):
        check_extensions(pinning("ext-pinned", **change))


def test_another_distribution_is_not_acceptable(fake, pinning):
    fake("ext-mine")
    fake("ext-theirs")
    with pytest.raises(NotAcceptable, match="distribution ext-mine, not ext-theirs"):
        check_extensions(pinning("ext-mine", distribution="ext-theirs"))


def test_only_what_the_policy_names_is_loaded(fake, pinning):
    fake("ext-named")
    fake("ext-unnamed")
    policy = pinning("ext-named")
    with pytest.raises(WrongInput, match="nothing called ext-unnamed among its models"):
        load(policy, "models", "ext-unnamed")
    with pytest.raises(WrongInput, match="among its engines"):
        load(policy, "engines", "ext-named")
    check_extensions(policy)
    assert not {"ext_named", "ext_unnamed"} & set(sys.modules)


def test_what_is_not_installed_is_unavailable(fake, pinning):
    ext = fake("ext-gone")
    policy = pinning("ext-gone")
    shutil.rmtree(ext.metadata)
    with pytest.raises(Unavailable, match="is not installed") as caught:
        check_extensions(policy)
    assert "ext-gone==1.0" in caught.value.hint


def test_two_distributions_with_one_entry_point_are_unavailable(fake, pinning):
    fake("ext-one")
    other = fake("ext-two")
    (other.metadata / "entry_points.txt").write_text("[oathbound.models]\next-one = ext_two:make\n")
    with pytest.raises(Unavailable, match="more than once"):
        check_extensions(pinning("ext-one"))


def test_a_package_that_comes_first_on_the_path_is_not_imported(fake, pinning, tmp_path, monkeypatch):
    fake("ext-shadowed")
    policy = pinning("ext-shadowed")
    (tmp_path / "first" / "ext_shadowed").mkdir(parents=True)
    (tmp_path / "first" / "ext_shadowed" / "__init__.py").write_text("def make(): return 'shadow'\n")
    monkeypatch.syspath_prepend(tmp_path / "first")
    with pytest.raises(NotAcceptable, match="from elsewhere"):
        load(policy, "models", "ext-shadowed")
    assert "ext_shadowed" not in sys.modules


@pytest.mark.parametrize(
    "value", ["os:getcwd", "oathbound.data.meds:open_meds", "ext_absent:make", "__main__:x", "!"]
)
def test_an_entry_point_into_other_code_is_not_acceptable(fake, pinning, value):
    ext = fake("ext-pointing")
    (ext.metadata / "entry_points.txt").write_text(f"[oathbound.models]\next-pointing = {value}\n")
    with pytest.raises(NotAcceptable, match="from elsewhere"):
        check_extensions(pinning("ext-pointing"))


@pytest.mark.parametrize(
    "code",
    [
        "raise RuntimeError('at import')",
        "raise SystemExit(0)",
        "import there_is_no_such_module",
        "def other(): ...",
        "this is no Python",
    ],
)
def test_what_cannot_be_imported_is_unavailable(fake, pinning, code):
    fake("ext-broken", code=code)
    policy = pinning("ext-broken")
    check_extensions(policy)
    with pytest.raises(Unavailable, match="cannot be loaded"):
        load(policy, "models", "ext-broken")


def test_what_is_editable_has_no_pin(fake):
    fake("ext-editable", more=("_ext_editable.pth",))
    with pytest.raises(Unavailable, match="editable") as caught:
        digest_of_distribution("ext-editable")
    assert "-e" in caught.value.hint
    listed = next(each for each in installed() if each.name == "ext-editable")
    assert isinstance(listed.pin, Unavailable)


@pytest.mark.parametrize("name", ["Upper", 'quo"te', "two words"])
def test_a_name_that_a_policy_could_not_hold_has_no_pin(fake, name):
    ext = fake("ext-named-oddly")
    (ext.metadata / "entry_points.txt").write_text(f"[oathbound.models]\n{name} = ext_named_oddly:make\n")
    listed = next(each for each in installed() if each.name == name)
    assert isinstance(listed.pin, WrongInput)


def test_what_has_no_list_of_files_or_no_code_has_no_pin(fake, tmp_path):
    ext = fake("ext-unlisted")
    (ext.metadata / "RECORD").write_text(f"{ext.metadata.name}/RECORD,,\n")
    with pytest.raises(Unavailable, match="has no code"):
        digest_of_distribution("ext-unlisted")
    (ext.metadata / "RECORD").write_text("a,b,c,d,e\n")
    with pytest.raises(Unavailable, match="damaged"):
        digest_of_distribution("ext-unlisted")
    (ext.metadata / "RECORD").unlink()
    with pytest.raises(Unavailable, match="not installed from a wheel"):
        digest_of_distribution("ext-unlisted")
    (ext.metadata / "RECORD").write_text(",,\n")
    with pytest.raises(Unavailable, match="without a path"):
        digest_of_distribution("ext-unlisted")
    linked = fake("ext-linked")
    (linked.package / "data").symlink_to(tmp_path)
    with pytest.raises(Unavailable, match="link"):
        digest_of_distribution("ext-linked")
    with pytest.raises(Unavailable, match="not installed"):
        digest_of_distribution("ext-absent")


def test_a_package_that_is_a_link_has_no_pin(fake, tmp_path):
    ext = fake("ext-elsewhere")
    ext.package.rename(tmp_path / "elsewhere")
    ext.package.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable, match="link"):
        digest_of_distribution("ext-elsewhere")


def test_a_file_whose_name_is_not_utf_8_has_no_pin(fake):
    ext = fake("ext-latin")
    try:
        Path(os.fsdecode(os.fsencode(ext.package) + b"/\xff.py")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system holds no name that is not UTF-8")
    with pytest.raises(Unavailable, match="name is not UTF-8"):
        digest_of_distribution("ext-latin")


def test_metadata_that_is_not_utf_8_has_no_pin(fake):
    ext = fake("ext-garbled")
    (ext.metadata / "METADATA").write_bytes(b"Metadata-Version: 2.1\nName: ext-garbled\xff\nVersion: 1.0\n")
    with pytest.raises(Unavailable, match="metadata of ext-garbled is not UTF-8"):
        digest_of_distribution("ext-garbled")
    listed = next(each for each in installed() if each.name == "ext-garbled")
    assert isinstance(listed.pin, Unavailable)


@pytest.mark.parametrize("damaged", [b"[oathbound.models]\nno value\n", b"[oathbound.models]\n\xff = a:b\n"])
def test_damaged_entry_points_are_unavailable(fake, pinning, damaged):
    ext = fake("ext-damaged")
    policy = pinning("ext-damaged")
    (ext.metadata / "entry_points.txt").write_bytes(damaged)
    for use in (lambda: check_extensions(policy), installed):
        with pytest.raises(Unavailable, match=r"entry points of .* are damaged"):
            use()


def test_what_is_installed_is_listed_without_an_import(fake):
    fake("ext-listed", code="raise RuntimeError")
    fake("ext-audit", group="audits", code="raise RuntimeError")
    listed = {each.name: each for each in installed()}
    assert listed["ext-audit"].group == "audits"
    pin = listed["ext-listed"].pin
    assert (pin.distribution, pin.version, pin.digest) == (
        "ext-listed",
        *digest_of_distribution("ext-listed"),
    )
