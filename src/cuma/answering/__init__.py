"""A run, an adapter or a model, ready to answer: every way to load one starts here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cuma.answering.answerer import Answerer, Answerers, Source

__all__ = ["Answerer", "Answerers", "Source"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562): the modules here load torch and peft."""
    if name not in __all__:
        raise AttributeError(f"module 'cuma.answering' has no attribute {name!r}")
    from cuma.answering import answerer

    return getattr(answerer, name)
