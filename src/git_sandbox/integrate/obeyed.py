"""Files that some program runs or reads settings from by itself, as data: a name, the effect, and a source.

The rule: what runs on entering a directory, opening it in an editor or an agent, on a git command, on installing
packages, on a push, or what changes how such a program runs, is in the list. What runs only when somebody runs it
(a Makefile, a test, a script) is not: it is what a merge is for. Nor is what every second commit of a project changes
(CMakeLists.txt, pom.xml), although editors read it when they open one: who is asked each time does not look.

Dot files and dot directories are in it whether they are known or not, because that is where programs keep what they
obey; the few that cannot do harm are `HARMLESS`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Dot files that no program runs or obeys beyond leaving files out, formatting or labelling them.
HARMLESS = frozenset({
    ".gitignore", ".gitkeep", ".keep", ".dockerignore", ".npmignore", ".eslintignore", ".prettierignore", ".ignore",
    ".editorconfig", ".clang-format", ".mailmap", ".python-version", ".node-version", ".nojekyll", ".gitempty",
    ".rgignore", ".stylelintignore", ".helmignore", ".gcloudignore", ".git-blame-ignore-revs", ".well-known",
})  # fmt: skip


class Rule(NamedTuple):
    """`pattern`: of the whole path, in lower case. `why` follows the path in a sentence. `source`: who says so."""

    pattern: str
    why: str
    source: str


_CI = "is run by continuous integration"
_AGENT = "instructs coding agents"
_EDITOR = "configures editors"
# First match wins. Compared in lower case: some tools, and some file systems, do not care about case.
RULES = (
    Rule(r"(.*/)?\.gitattributes", "chooses filters, diff and merge programs", "gitattributes(5)"),
    Rule(r"(.*/)?\.gitmodules", "says where submodules come from", "gitmodules(5)"),
    Rule(
        r".*/head", "can make its directory a bare git repository, whose configuration git then uses",
        "git-config(1), safe.bareRepository",
    ),
    Rule(r"(.*/)?\.lfsconfig", "says where Git LFS sends its requests", "git-lfs-config(5)"),
    Rule(r"sandbox\.toml", "has settings for your next sandboxes", "docs/reference/settings.md"),
    Rule(r"(.*/)?\.envrc", "is run by direnv on entering the directory", "direnv(1)"),
    Rule(
        r"(.*/)?\.(vscode|idea|devcontainer)/.*", "configures editors (tasks, settings, extensions)",
        "code.visualstudio.com/docs/editor/tasks, containers.dev",
    ),
    Rule(
        r"(.*/)?\.devcontainer\.json", "configures dev containers (commands run when one is made)",
        "containers.dev/implementors/spec",
    ),
    Rule(
        r"(.*/)?(\.(claude|cursor|gemini|codex|windsurf)/.*|\.mcp\.json)",
        "configures coding agents (hooks, servers)", "docs.claude.com/en/docs/claude-code/hooks",
    ),
    Rule(
        r"(.*/)?((claude|agents?|gemini|qwen|warp)(\.(local|override))?\.md|skill\.md)", f"{_AGENT} (instructions)",
        "agents.md; docs.claude.com/en/docs/claude-code/memory",
    ),
    Rule(
        r"(.*/)?(opencode\.jsonc?|crush\.json|\.aider.*|\.cursorrules|\.windsurfrules|\.clinerules(/.*)?)",
        _AGENT, "opencode.ai/docs/config, aider.chat/docs/config, docs.cursor.com/context/rules",
    ),
    Rule(
        r"(.*/)?(\.zed/.*|\.helix/.*|\.exrc|\.l?vimrc|\.local\.vimrc|\.n?vimrc|\.nvim\.lua|\.dir-locals(-2)?\.el|"
        r"[^/]*\.code-workspace)", _EDITOR, "vim(1) 'exrc', zed.dev/docs/configuring-zed, Emacs: Directory Variables",
    ),
    Rule(
        r"(.*/)?[^/]+\.config\.[cm]?[jt]s", "is a program that editors run to learn how to check, format or complete",
        "eslint.org/docs/latest/use/configure, tailwindcss.com/docs/editor-setup, vitest.dev/guide/ide",
    ),
    Rule(r"(.*/)?build\.rs", "is run by rust-analyzer as soon as an editor opens a file", "rust-analyzer: Security"),
    Rule(
        r"(.*/)?rust-toolchain(\.toml)?", "names the compiler that cargo, rustc and editors run, as a path even",
        "rust-lang.github.io/rustup/overrides.html",
    ),
    Rule(r"(.*/)?hie\.ya?ml", "names a program that Haskell's language server runs", "github.com/haskell/hie-bios"),
    Rule(
        r"(.*/)?((settings|build)\.gradle(\.kts)?|[^/]+\.sbt|mix\.exs|gemfile|[^/]+\.gemspec)",
        "is a program that editors run when they open the project",
        "docs.gradle.org: Build Lifecycle, scalameta.org/metals, github.com/elixir-lsp, shopify.github.io/ruby-lsp",
    ),
    Rule(
        r"(.*/)?(directory\.(build|packages|solution)\.(props|targets|rsp)|nuget\.config|global\.json)",
        "is obeyed by every .NET build below it, including those that editors start",
        "learn.microsoft.com/visualstudio/msbuild/customize-by-directory",
    ),
    Rule(r"(.*/)?pylintrc(\.toml)?", "is Python that pylint and editors run (init-hook)", "pylint.readthedocs.io"),
    Rule(
        r"(.*/)?((flake|shell|default|devenv)\.nix|flake\.lock|devenv\.(yaml|lock)|devbox\.(json|lock))",
        "defines the shell that direnv and the like load on entering the directory",
        "github.com/nix-community/nix-direnv, devenv.sh/automatic-shell-activation, jetify.com/docs/devbox",
    ),
    Rule(
        r"(.*/)?(\.?mise(\.[^/]+)?\.toml|\.?mise/.*|\.config/mise.*|\.autoenv(\.zsh)?)",
        "is run on entering the directory", "mise.jdx.dev/configuration.html",
    ),
    Rule(r"(.*/)?(\.gdbinit|\.lldbinit|\.pdbrc)", "is run by debuggers", "gdb(1), docs.python.org/library/pdb"),
    Rule(r"(.*/)?(\.irbrc|\.iex\.exs|\.rprofile|\.pryrc|\.ghci)", "is run by interpreters", "irb(1), R: ?Startup"),
    Rule(r"(.*/)?\.rvmrc", "is run by rvm on entering the directory", "rvm.io/workflow/rvmrc"),
    Rule(
        r"(.*/)?(\.(npmrc|yarnrc(\.yml)?|pnpmfile\.cjs)|pnpmfile\.cjs|pnpm-workspace\.yaml|bunfig\.toml)",
        "says what package managers run, and where they fetch from",
        "docs.npmjs.com/cli/configuring-npm/npmrc, yarnpkg.com/configuration, pnpm.io/pnpmfile, bun.sh/docs",
    ),
    Rule(r"(.*/)?(setup\.py|binding\.gyp)", "is run when the package is installed", "setuptools; npm-install(1)"),
    Rule(r"(.*/)?(sitecustomize|usercustomize)\.py", "is run by every Python that finds it", "docs.python.org/site"),
    Rule(r"(.*/)?\.cargo/.*", "says what cargo runs", "doc.rust-lang.org/cargo/reference/config.html"),
    Rule(r"(.*/)?\.mvn/.*", "configures Maven (extensions, options)", "maven.apache.org/configure.html"),
    Rule(
        r"(.*/)?(gradle/wrapper/.*|gradlew(\.bat)?|mvnw(\.cmd)?|gradle\.properties|init\.gradle(\.kts)?)",
        "says what the build tool itself is", "docs.gradle.org/current/userguide/gradle_wrapper.html",
    ),
    Rule(r"(.*/)?\.bazel(rc|iskrc|version)", "says what bazel runs", "bazel.build/run/bazelrc"),
    Rule(r"(.*/)?ansible\.cfg", "says which code ansible loads", "docs.ansible.com: Configuration Settings"),
    Rule(r"\.?lefthook(-local)?\.(ya?ml|toml|json)", "is run as git hooks by lefthook", "lefthook.dev"),
    Rule(r"\.overcommit\.yml", "is run as git hooks by overcommit", "github.com/sds/overcommit"),
    Rule(r"(.*/)?\.(husky|githooks)/.*", "holds git hooks", "typicode.github.io/husky"),
    Rule(r"\.github/.*", "is run or used by GitHub", "docs.github.com/actions"),
    Rule(r"\.(gitlab-ci|travis|drone|appveyor|woodpecker|cirrus)\.ya?ml", _CI, "docs.gitlab.com/ci/yaml"),
    Rule(r"\.(circleci|woodpecker|buildkite|forgejo|gitea)/.*", _CI, "circleci.com/docs/configuration-reference"),
    Rule(
        r"(.*/)?jenkinsfile(\..*)?|(azure|bitbucket)-pipelines\.ya?ml|appveyor\.yml|cloudbuild\.ya?ml|"
        r"buildspec\.ya?ml|netlify\.toml|vercel\.json", _CI, "jenkins.io/doc/book/pipeline/jenkinsfile",
    ),
    Rule(r"\.pre-commit-config\.yaml", "is run as a git hook by pre-commit", "pre-commit.com"),
)  # fmt: skip
_COMPILED = tuple((re.compile(rule.pattern.encode(), re.DOTALL), rule.why) for rule in RULES)
_HARMLESS = frozenset(name.encode() for name in HARMLESS)
_DOTTED = "is a dot file, and programs read settings from those"


def runs_by_itself(path: bytes) -> str | None:
    """What obeys a file at `path`, relative to the top of a worktree, by its name; None when nothing does."""
    known = next((why for rule, why in _COMPILED if rule.fullmatch(path.lower())), None)
    return known or (_DOTTED if any(_dotted(part) for part in path.split(b"/")) else None)


def _dotted(part: bytes) -> bool:
    return part.startswith(b".") and part not in _HARMLESS
