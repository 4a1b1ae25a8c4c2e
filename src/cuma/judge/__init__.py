"""An LLM judge: which of two replies to the same prompt serves one person better."""

from cuma.judge.judge import Judge
from cuma.judge.question import Pair
from cuma.judge.report import JudgeReport

__all__ = ["Judge", "JudgeReport", "Pair"]
