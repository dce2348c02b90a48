from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from git_sandbox.cli import common
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError

# Click's scripts know `sandbox` only. Git's own completion asks these functions how `git sandbox …` goes on.
_GIT = {
    "bash": """
complete -o nosort -F _sandbox_completion git-sandbox

_git_sandbox() {
    local skip=${__git_subcommand_idx:-1}
    local COMP_WORDS=(sandbox "${words[@]:skip+1}") COMP_CWORD=$((cword - skip))
    _sandbox_completion sandbox
}
""",
    "zsh": """
_git-sandbox() { _sandbox_completion "$@" }

# Called as an autoloaded function, complete; sourced, register.
if [[ $funcstack[1] == (_sandbox|_git-sandbox) ]]; then
    _sandbox_completion "$@"
else
    compdef _sandbox_completion sandbox git-sandbox
fi
""",
    "fish": """
function _git_sandbox_completion
    set -l words (commandline -cp | string replace -r '^\\s*git\\s+' '')
    for line in (env _SANDBOX_COMPLETE=fish_complete COMP_WORDS=$words COMP_CWORD=(commandline -t) sandbox)
        set -l parts (string split "," $line)
        test $parts[1] = plain; and echo $parts[2]
    end
end
complete --no-files --command git-sandbox --arguments "(_sandbox_completion)"
complete --no-files --command git --condition "__fish_seen_subcommand_from sandbox" \\
    --arguments "(_git_sandbox_completion)"
""",
}
# The last part of click's script for zsh works when it is loaded, shows nothing at the second try, and works again.
_ZSH_END = "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common.json_option
def command(shell: str, as_json: bool) -> Result:
    """Print the completion script for a shell; it knows `git sandbox` as well.

    \b
    Examples:
      sandbox completion bash >> ~/.bashrc
      sandbox completion zsh > "${fpath[1]}/_sandbox"
      ln -s _sandbox "${fpath[1]}/_git-sandbox"
      sandbox completion fish > ~/.config/fish/completions/sandbox.fish
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    from git_sandbox.cli.main import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"no completion for {shell}")
    script = kind(cli, {}, "sandbox", "_SANDBOX_COMPLETE").source().partition(_ZSH_END)[0].rstrip()
    script = f"{script}\n{_GIT[shell]}".rstrip()
    return Result("completion", {"shell": shell, "script": script}, text=script)
