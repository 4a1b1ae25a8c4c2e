"""What is told about a served model: OpenAI's fields, and what the page offers as a start."""

from __future__ import annotations

from typing import Any

from cuma.answering.answerer import Answerer
from cuma.people.profiles import FIELDS


def described(answerer: Answerer, created: int, max_tokens: int) -> dict[str, Any]:
    """An entry of /v1/models. `cuma` holds what the run recorded of the people that it was trained on, as its model
    card does: questions, the values of profile fields, and groups large enough to be named."""
    source, config = answerer.source, answerer.config
    population = source.card
    return {
        "id": answerer.name,
        "object": "model",
        "created": created,
        "owned_by": "cuma",
        "cuma": {
            "label": source.info.get("label", answerer.name),
            "base_model": answerer.backbone.name if source.info else answerer.backbone.name.rpartition("/")[2],
            "profile_in": source.profile_in,
            "profile_fields": list(FIELDS) if answerer.reads_profile else [],
            "field_values": population.get("profile_fields", {}),
            "people": population.get("profiles", []),
            "questions": [
                {"text": question["text"], "options": list(question["options"])}
                for question in population.get("questions", [])
            ],
            "experts": config.num_experts if config else 0,
            "max_tokens": max_tokens,
            "top_k": config.top_k if config else 0,
        },
    }
