"""Who asks, written into a request's own text, so that a cached answer is never another person's.

The harness caches by a request's text and knows no other inputs. A marked request begins, wherever a chat template puts
its beginning, with one line that holds the profile as JSON; the model type takes it out before the text is read.
"""

from __future__ import annotations

import json
import re

from cuma.errors import ProfileError
from cuma.people.profiles import Profile

_OPEN, _CLOSE = "<|cuma_profile|>", "<|/cuma_profile|>"
_MARK = re.compile(re.escape(_OPEN) + "(.*?)" + re.escape(_CLOSE) + r"\n?", re.DOTALL)


def mark(profile: Profile, text: str) -> str:
    """The text with the profile in front; an empty profile leaves no mark."""
    if not profile:
        return text
    return f"{_OPEN}{json.dumps(profile.fields, ensure_ascii=False, sort_keys=True)}{_CLOSE}\n{text}"


def unmark(text: str) -> tuple[Profile, str]:
    """The profile that a request is marked with (none: the empty one), and the text that the model reads.

    Raises:
        ProfileError: the mark holds no profile, or the request has marks of several people (few-shot examples are
            marked alike or not at all).
    """
    found = dict.fromkeys(_MARK.findall(text))
    if not found:
        return Profile(), text
    if len(found) > 1:
        raise ProfileError(f"A request is marked with {len(found)} different profiles; expected one. Mark it once.")
    try:
        value = json.loads(next(iter(found)))
    except ValueError as error:
        raise ProfileError(
            "A request's profile mark holds no JSON. Make marks with cuma.harness.marker.mark."
        ) from error
    if not isinstance(value, dict | str):
        raise ProfileError("A request's profile mark holds neither an object of fields nor a sentence.")
    return Profile.parse(value), _MARK.sub("", text)
