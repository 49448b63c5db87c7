"""`oathbound extensions`."""

from oathbound.cli.output import Format, answer, note
from oathbound.cli.verbs.options import FormatOption


def command(form: FormatOption = Format.TEXT) -> None:
    """List what is installed that a study can name.

    Prints the tables of study.toml that pin it; imports none of it.
    """
    from oathbound.cli.answers import ExtensionsAnswer
    from oathbound.workflow.extensions import Pin, installed

    listed = installed()
    for each in listed:
        if not isinstance(each.pin, Pin):
            note(f"{each.group} {each.name!r}: {each.pin.message}; {each.pin.hint}")
    pins = tuple(each.pin for each in listed if isinstance(each.pin, Pin))
    tables = []
    for pin in pins:
        lines = ["[[policy.extensions]]", *(f'{key} = "{value}"' for key, value in pin.plain().items())]
        if pin.group == "audits":
            lines.append("measures = {}  # fill in what its documentation says")
        tables.append("\n".join(lines))
    text = "\n\n".join(tables) or "nothing is installed that a study can name"
    answer(text, ExtensionsAnswer(extensions=pins), form)
