"""Verbs of many options: a function for each panel of the help, which makes one value of the panel's options."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any


def with_panels(**panels: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb the options of several functions, behind its own.

    Args:
        panels: name of a parameter of the verb → the function whose parameters are options and whose result is the
            argument. An option that two of the functions name is one option, the first's.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        options = {name: signature(panel, eval_str=True).parameters for name, panel in panels.items()}
        own = {name: one for name, one in signature(verb, eval_str=True).parameters.items() if name not in panels}
        parameters = dict(own)
        for of_panel in options.values():
            for name, option in of_panel.items():
                parameters.setdefault(name, option)

        @wraps(verb)
        def command(**given: Any) -> None:
            values = {name: panel(**{key: given[key] for key in options[name]}) for name, panel in panels.items()}
            verb(**{name: given[name] for name in own}, **values)

        kept = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in parameters.values()]
        command.__signature__ = Signature(kept)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in kept}
        return command

    return decorate
