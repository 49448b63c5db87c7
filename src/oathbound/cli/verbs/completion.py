"""`oathbound completion`, and the answers to what its scripts ask."""

import os
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final

import typer

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption

ASKED: Final = "_OATHBOUND_COMPLETE"
"""The variable by which a script asks this program what could come next; Typer reads it."""


class Shell(StrEnum):
    """A shell that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


SCRIPTS: Final = MappingProxyType(
    {
        # Where there is nothing to propose, `-o default` and `_files` propose files.
        Shell.BASH: """\
_oathbound_completion() {
    local IFS=$'\\n'
    COMPREPLY=($(COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD _OATHBOUND_COMPLETE=complete_bash "$1"))
}
complete -o default -F _oathbound_completion oathbound""",
        Shell.ZSH: """\
#compdef oathbound
_oathbound_completion() {
    eval $(_TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _OATHBOUND_COMPLETE=complete_zsh oathbound)
}
compdef _oathbound_completion oathbound""",
        Shell.FISH: """\
function __oathbound_complete
    env _OATHBOUND_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv[1] \\
        _TYPER_COMPLETE_ARGS=(commandline -cp) oathbound
end
complete --command oathbound --no-files --arguments "(__oathbound_complete get-args)" \\
    --condition "__oathbound_complete is-args\"""",
    }
)


def command(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell.")],
    form: FormatOption = Format.TEXT,
) -> None:
    """Print a shell's completion script.

    In bash or zsh: eval "$(oathbound completion bash)". In fish: oathbound completion fish | source
    """
    from oathbound.cli.answers import CompletionAnswer

    script = SCRIPTS[shell]
    answer(script, CompletionAnswer(shell=shell.value, script=script), form)


def listen() -> None:
    """Let Typer answer the scripts; it does so itself only where it also adds options that install them."""
    if ASKED in os.environ:
        from typer.completion import get_completion_inspect_parameters

        get_completion_inspect_parameters()  # on its way it registers the shells, which is all that we want
