"""Few-shot: what other people of the same group answered, as turns before the question."""

from __future__ import annotations

from cuma.data.surveys.prompts import LETTERS, Message, question_orders, survey_messages
from cuma.data.surveys.splits import group_stream
from cuma.data.surveys.survey import NO_ANSWER, Survey
from cuma.errors import BenchmarkError


class Exemplars:
    """Draws (question, answer) turns from a seen group's training people, and from nobody else.

    Any question may come up, the one that is asked included. Each (group, question asked) has a draw of its own, so
    that one unlucky draw does not decide a whole group, and the same seed gives the same turns.
    """

    def __init__(self, survey: Survey, count: int, seed: int) -> None:
        """Args:
        survey: the benchmark.
        count: k, the turns before a question.
        seed: of the draw.
        """
        self.survey = survey
        self.count = count
        self.seed = seed
        trained = survey.people[survey.people["part"] == "train"]
        self._people = {str(label): members for label, members in trained.groupby("group")}

    def __call__(self, group: str, question_id: str) -> list[Message]:
        """2 · k messages: question, letter, question, letter, ….

        Raises:
            BenchmarkError: the group has fewer training answers than k; a held-out group has none.
        """
        questions = {question.id: question for question in self.survey.with_roles(("seen",))}
        members = self._people.get(group, self.survey.people.iloc[:0])
        said = [(name, answer) for name in questions for answer in members[name].to_numpy() if answer != NO_ANSWER]
        if len(said) < self.count:
            raise BenchmarkError(
                f"{self.survey.name}: a group has {len(said)} training answers, expected at least the "
                f"{self.count} of data.exemplars. Held-out groups have none: ask seen groups only."
            )
        rng = group_stream(f"exemplars for {question_id} of {group}", self.seed)
        turns: list[Message] = []
        for place in rng.choice(len(said), size=self.count, replace=False):
            name, answer = said[place]
            orders = question_orders(questions[name])
            order = orders[rng.integers(len(orders))]
            turns.append(survey_messages(questions[name], order)[-1])
            turns.append({"role": "assistant", "content": LETTERS[order.index(int(answer))]})
        return turns
