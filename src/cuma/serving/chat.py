"""A conversation at the terminal: replies stream, the person can be changed, and several people can be compared."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cuma.answering.answerer import Answerer
from cuma.data.surveys.prompts import LETTERS
from cuma.errors import CumaError, ServingError
from cuma.people.profiles import FIELDS, Profile
from cuma.serving.engine import Engine
from cuma.serving.generation import Ended, Event, Order, TokenText
from cuma.serving.opinions import OpinionBatch, ask
from cuma.serving.sampling import Sampling
from cuma.serving.service import chat_prompt, context_of

HELP = """\
/profile country=Japan age=30     who asks from now on; a sentence does as well; /profile alone: nobody in particular
/compare country=Japan | age=70   the last question, answered for several people side by side; alone: the same people
/opinions TEXT | YES | NO …       a survey question: how likely each option is, for you, or for the people compared
/experts                          show, or do not show, which experts spoke
/new                              forget the conversation
/quit                             or Ctrl-D"""
BAR = 30


@dataclass
class Chat:
    """One conversation. Nothing of it is kept anywhere."""

    engine: Engine
    answerer: Answerer
    console: Console
    profile: Profile = field(default_factory=Profile)
    max_tokens: int = 256
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.7, top_p=0.95))
    show_experts: bool = True
    messages: list[dict[str, str]] = field(default_factory=list)
    people: list[Profile] = field(default_factory=list)
    """Who is compared."""

    def run(self, read: Callable[[], str]) -> None:
        """Until the end of input; `read` gives one line, and raises EOFError at the end."""
        self._say(f"{self.answerer.name}: ask something, or /help", "dim")
        while True:
            try:
                line = read().strip()
            except EOFError:
                return
            if line in ("/quit", "/exit"):
                return
            try:
                self._do(line)
            except KeyboardInterrupt:
                self._say("Stopped.", "yellow")
            except CumaError as error:
                self._say(str(error), "red")

    def _do(self, line: str) -> None:
        if not line:
            return
        if not line.startswith("/"):
            self._ask(line)
            return
        word, _, rest = line.partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "/profile": self._set_profile,
            "/compare": self._compare,
            "/opinions": self._opinions,
            "/experts": self._toggle_experts,
            "/new": self._forget,
            "/help": lambda _: self._say(HELP, ""),
        }
        if word not in commands:
            raise ServingError(f"There is no command of that name. Commands: {', '.join(commands)}, /quit.")
        commands[word](rest.strip())

    # ---- commands ---------------------------------------------------------------------------------------------------

    def _ask(self, text: str) -> None:
        """A turn of the conversation. One that was stopped or failed is forgotten."""
        messages = [*self.messages, {"role": "user", "content": text}]
        reply = ""
        for _, event in self._replies([self.profile], messages):
            if isinstance(event, TokenText):
                reply += event.text
                self.console.print(Text(event.text), end="", soft_wrap=True)
            else:
                reply += event.text
                self.console.print(Text(event.text), soft_wrap=True)
                self._tell_end(event)
        self.messages = [*messages, {"role": "assistant", "content": reply}]

    def _set_profile(self, text: str) -> None:
        profile = Profile.read(text)
        self.answerer.embeds([profile])  # refused here, and not at the next question
        self.profile = profile
        # Keys and values, and the conversation, belong to the person before.
        self.messages = []
        self._say(f"{_name(profile)}. A new conversation begins.", "green")
        if not text:
            self._say(f"Fields: {', '.join(FIELDS)}", "dim")

    def _compare(self, text: str) -> None:
        if text:
            self.people = [Profile.read(part.strip()) for part in text.split("|")]
        if not self.people:
            raise ServingError("Name the people to compare: /compare country=Japan | country=Peru age=70")
        questions = [message for message in self.messages if message["role"] == "user"]
        if not questions:
            raise ServingError("Ask something first; /compare then answers it for each of them.")
        texts, ends = ["" for _ in self.people], dict[int, Ended]()
        with Live(console=self.console, refresh_per_second=8, transient=False) as live:
            for index, event in self._replies(self.people, questions[-1:]):
                texts[index] += event.text
                if isinstance(event, Ended):
                    ends[index] = event
                live.update(self._side_by_side(texts, ends))
        self.console.print()

    def _opinions(self, text: str) -> None:
        question, *options = [part.strip() for part in text.split("|")]
        if not 2 <= len(options) <= len(LETTERS) or not all([question, *options]):
            raise ServingError(
                f"Write the question and 2 to {len(LETTERS)} options: /opinions Should it be legal? | Yes | No"
            )
        people = self.people or [self.profile]
        batch = OpinionBatch(self.answerer, question, options, people, routing=self.show_experts)
        for person, opinion in zip(people, ask(batch, self.engine.call), strict=True):
            table = Table("Option", "", "Share", title=_name(person), title_justify="left", box=None)
            for option, share in zip(options, opinion.probabilities, strict=True):
                table.add_row(option, "█" * round(BAR * float(share)), f"{share:.0%}")
            self.console.print(table)
            if opinion.option_mass < 0.5:
                self._say(f"The letters together have only {opinion.option_mass:.0%}: take this with care.", "yellow")
            self._tell_experts(opinion.experts)

    def _toggle_experts(self, _: str) -> None:
        self.show_experts = not self.show_experts
        self._say("Experts are shown." if self.show_experts else "Experts are not shown.", "dim")

    def _forget(self, _: str) -> None:
        self.messages = []
        self._say("A new conversation begins.", "green")

    # ---- replies ----------------------------------------------------------------------------------------------------

    def _replies(self, people: Sequence[Profile], messages: list[dict[str, str]]) -> Iterator[tuple[int, Event]]:
        """(person, event) until all have ended; leaving early, with Ctrl-C, frees their slots."""
        events: queue.Queue[tuple[int, Event]] = queue.Queue()
        orders = [self._order(person, messages) for person in people]
        tells = [lambda event, index=index: events.put((index, event)) for index in range(len(people))]
        generations = self.engine.submit(orders, tells)
        try:
            running = len(people)
            while running:
                index, event = events.get()
                if isinstance(event, Ended):
                    running -= 1
                    if event.reason == "error":
                        raise ServingError("The model failed while it was writing. Try again, or shorten the question.")
                yield index, event
        finally:
            for generation in generations:
                generation.cancel()

    def _order(self, person: Profile, messages: list[dict[str, str]]) -> Order:
        tokens = chat_prompt(self.answerer, self.answerer.messages(messages, person))
        room = context_of(self.answerer) - len(tokens)
        if room < 1:
            raise ServingError("The conversation is longer than the model can read. /new begins another one.")
        return Order(
            self.answerer, tokens, self.answerer.embeds([person]), min(self.max_tokens, room), self.sampling,
            routing=self.show_experts,
        )  # fmt: skip

    # ---- the screen -------------------------------------------------------------------------------------------------

    def _side_by_side(self, texts: Sequence[str], ends: Mapping[int, Ended]) -> RenderableType:
        width = max(24, self.console.width // len(texts) - 1)
        panels = []
        for index, (person, text) in enumerate(zip(self.people, texts, strict=True)):
            experts = spoken(ends[index].experts) if index in ends and self.show_experts else ""
            body = Group(Text(text.strip()), Text(experts, style="dim"))
            panels.append(Panel(body, title=Text(_name(person)), width=width))
        return Columns(panels, padding=(0, 0))

    def _tell_end(self, end: Ended) -> None:
        if end.reason == "length":
            self._say(f"(cut after {end.completion_tokens} tokens; --max-tokens allows more)", "dim")
        self._tell_experts(end.experts)

    def _tell_experts(self, experts: Mapping[str, Sequence[float]] | None) -> None:
        if self.show_experts and experts:
            self._say(spoken(experts), "dim")

    def _say(self, text: str, style: str) -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)


def spoken(experts: Mapping[str, Sequence[float]] | None) -> str:
    """Which experts spoke, averaged over the layers, most first; "" without routing."""
    if not experts:
        return ""
    mean = np.mean(list(experts.values()), axis=0)
    most = [int(expert) for expert in np.argsort(-mean, kind="stable")[:3]]
    return "experts " + ", ".join(f"{expert + 1} ({mean[expert]:.0%})" for expert in most)


def _name(profile: Profile) -> str:
    return profile.sentence or "Nobody in particular"
