import pytest

from oathbound.cli.main import _refusal
from oathbound.core.errors import Unavailable


@pytest.mark.parametrize(
    ("module", "extra"), [("pydicom", "scans"), ("PIL.Image", "scans"), ("torch", "train,audit")]
)
def test_what_installs_a_missing_package_is_said(module, extra):
    refused = _refusal(ModuleNotFoundError("no such module", name=module))
    assert isinstance(refused, Unavailable)
    assert refused.hint == f"pip install 'oathbound[{extra}]'"


def test_a_missing_module_that_is_nobodys_extra_is_unforeseen():
    with pytest.raises(ModuleNotFoundError):
        _refusal(ModuleNotFoundError("no such module", name="oathbound.none"))
