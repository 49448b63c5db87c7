"""`oathbound explain`."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption

if TYPE_CHECKING:
    from oathbound.cli.topics import Topic


def _ids(context: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield what a shell can complete: an id of one word, and its line."""
    from oathbound.cli.topics import topics

    for topic in topics(context):
        if topic.id.startswith(incomplete) and " " not in topic.id:
            yield topic.id, topic.title


def command(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]", help="Such as 12, BudgetRefused, epsilon or `step 9`.", autocompletion=_ids
        ),
    ] = None,
    form: FormatOption = Format.TEXT,
) -> None:
    """Explain a verb, exit code, error, test, key or step.

    Without an ID, list everything that can be explained.
    """
    from oathbound.cli.answers import ExplainAnswer, TopicAnswer
    from oathbound.cli.topics import find, topics

    known = topics(context)
    found = find(" ".join(words), known) if words else known
    text = "\n\n".join(map(_told, found)) if words else "\n".join(_listed(found))
    data = tuple(TopicAnswer(id=t.id, kind=t.kind, title=t.title, text=t.text) for t in found)
    answer(text, ExplainAnswer(topics=data), form)


def _told(topic: "Topic") -> str:
    parts = (f"{topic.id}: {topic.kind}", topic.title, topic.text, topic.page and f"More: {topic.page}")
    return "\n\n".join(filter(None, parts))


def _listed(known: "Sequence[Topic]") -> Iterator[str]:
    for kind, group in groupby(known, key=lambda topic: topic.kind):
        members = list(group)
        width = max(len(topic.id) for topic in members)
        yield f"{kind}:"
        yield from (f"  {topic.id:<{width}}  {topic.title}" for topic in members)
