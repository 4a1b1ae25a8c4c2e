"""Surveys of real people: questions, groups with profiles, splits, and the prompts that put them to a model."""

from cuma.data.surveys.cells import survey_cells
from cuma.data.surveys.prompts import LETTERS, letter_orders, question_orders, survey_messages
from cuma.data.surveys.survey import NO_ANSWER, PARTS, ROLES, Group, Part, Question, Role, Survey

__all__ = [
    "LETTERS",
    "NO_ANSWER",
    "PARTS",
    "ROLES",
    "Group",
    "Part",
    "Question",
    "Role",
    "Survey",
    "letter_orders",
    "question_orders",
    "survey_cells",
    "survey_messages",
]
