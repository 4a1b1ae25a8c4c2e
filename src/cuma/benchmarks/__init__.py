"""Surveys of real people: questions, groups with profiles, splits, and the prompts that put them to a model."""

from cuma.benchmarks.base import NO_ANSWER, PARTS, ROLES, Group, Part, Question, Role, Survey
from cuma.benchmarks.catalog import BENCHMARKS, load_benchmark
from cuma.benchmarks.cells import survey_cells
from cuma.benchmarks.prompts import LETTERS, letter_orders, survey_messages

__all__ = [
    "BENCHMARKS",
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
    "load_benchmark",
    "survey_cells",
    "survey_messages",
]
