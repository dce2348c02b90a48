"""The keys of the dashboard: each runs the command of that name, here or in another process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from textual.binding import Binding

from git_sandbox.tui import dialogs
from git_sandbox.tui.actions import ACTIONS, BY_KEY, Action, Way
from git_sandbox.tui.content import NETWORK, Outcome, Page, Row, Source, Verbs
from git_sandbox.tui.dashboard import Dashboard, paged
from git_sandbox.tui.lanes import Answer, answered, beside

_MOST_NOTED = 600  # characters of what a verb wrote, in the note about its end
_FOOTER = ("attach", "shell", "merge", "stop", "drop")


class Top(Dashboard):
    """The dashboard with its keys."""

    BINDINGS: ClassVar[list[Binding]] = [
        *(Binding(act.key, f"act('{act.key}')", act.label, show=act.label in _FOOTER) for act in ACTIONS),
        Binding("question_mark", "keys", "keys"),
        Binding("q,ctrl+c", "leave", "quit"),
        Binding("c", "compare", "compare"),
        Binding("g", "graph", "graph"),
    ]

    def __init__(self, source: Source, verbs: Verbs, **options: Any) -> None:
        super().__init__(source, **options)
        self.verbs = verbs
        self._warned = False

    def _chosen(self, *, many: bool = True) -> list[Row]:
        marked = [row for row in self.listing.rows if row.name in self.marks] if many else []
        selected = self.table.selected
        return marked or ([selected] if selected else [])

    def action_act(self, key: str) -> None:
        action = BY_KEY[key]
        rows = self._chosen(many=action.many)
        if not rows:
            self.note("No sandbox is selected.")
        elif action.verb == "merge":
            self._plan(rows[0])
        elif action.way is Way.TERMINAL:
            self._take_terminal(action, rows)
        elif action.way is Way.BESIDE:
            self._run(action, rows)
        elif action.way is Way.CONFIRMED:
            self._confirmed(action, rows)
        else:
            self._answered(action, rows)

    def _confirmed(self, action: Action, rows: Sequence[Row]) -> None:
        def decided(yes: bool | None) -> None:
            if yes:
                self._run(action, rows)

        self.push_screen(dialogs.Question(f"{action.question} {', '.join(row.name for row in rows)}?"), decided)

    def _answered(self, action: Action, rows: Sequence[Row]) -> None:
        choices = self.page.choices if self.tab == NETWORK and self.page_of else ()
        begin = choices[0] if action.verb == "net" and choices else ""

        def typed(answer: str | None) -> None:
            if answer is not None and (answer or action.verb != "net"):
                self._run(action, rows, answer)

        self.push_screen(dialogs.Words(f"{action.question} ({rows[0].name})", begin), typed)

    def _run(self, action: Action, rows: Sequence[Row], answer: str = "") -> None:
        """Beside the screen, one call for each repository."""
        places = dict.fromkeys(row.place for row in rows)
        for place in places:
            some = [row for row in rows if row.place == place]
            words = action.words(some, answer)
            job = f"{action.verb} {' '.join(row.name for row in some)}"
            self.jobs.append(job)

            def ended(answer: Answer, job: str = job) -> None:
                self._job_ended(job, answer)

            beside(lambda words=words, place=place, ended=ended: self.deliver(  # type: ignore[misc]
                answered(ended, lambda: self.verbs.run(words, place))))  # fmt: skip
        self.summarize()

    def _job_ended(self, job: str, answer: Answer) -> None:
        self.jobs.remove(job)
        if isinstance(answer.value, Outcome):
            text = answer.value.text.strip() or f"{job}: done"
            self.note(text[-_MOST_NOTED:], error=answer.value.code != 0)
        else:
            self.note("\n".join((f"cannot {job}", *answer.error)), error=True)
        self.action_refresh()
        self.summarize()

    def _take_terminal(self, action: Action, rows: Sequence[Row]) -> None:
        with self.suspend():
            self.verbs.take_terminal(action.words(rows), rows[0].place)
        self.refresh(layout=True)
        self.action_refresh()

    # Pages over the list.

    def _plan(self, row: Row) -> None:
        def shown(answer: Answer) -> None:
            title = f"sandbox merge {row.name}: what it brings"
            self.push_screen(dialogs.Reading(title, paged(answer), f"Merge {row.name} into your branch?"), decided)

        def decided(yes: bool | None) -> None:
            if yes:
                self._take_terminal(BY_KEY["m"], [row])

        self.questions.ask(shown, lambda: self.source.plan(row))

    def action_compare(self) -> None:
        self._of_marked("sandbox compare", self.source.comparison)

    def action_graph(self) -> None:
        self._of_marked("sandbox graph", self.source.graph)

    def _of_marked(self, title: str, call: Callable[[Sequence[Row]], Page]) -> None:
        """A page about the marked ones, or about all."""
        rows = [row for row in self.listing.rows if row.name in self.marks]

        def shown(answer: Answer) -> None:
            self.push_screen(dialogs.Reading(title, paged(answer)))

        self.questions.ask(shown, lambda: call(rows))

    def action_keys(self) -> None:
        self.push_screen(dialogs.Reading("Keys", dialogs.keys()))

    def action_leave(self) -> None:
        if self.jobs and not self._warned:
            self._warned = True
            self.note(f"Still running: {', '.join(self.jobs)}. Press q again to quit; it finishes by itself.")
            return
        self.exit()


def run(source: Source, verbs: Verbs, **options: Any) -> int:
    """Until it is left; the signal that ended it, or 0."""
    app = Top(source, verbs, **options)
    app.run()
    return app.ended
