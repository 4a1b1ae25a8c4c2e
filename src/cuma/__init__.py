"""cuma: the Cultural Mixture of Adapters, as a PEFT method.

`import cuma` is light: it loads neither torch nor peft. It makes sure that PEFT knows the method as soon as PEFT itself
is imported, before or after this line (`cuma._peft_hook`), and it resolves the public names on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cuma import _peft_hook

if TYPE_CHECKING:
    from cuma.models.backbones import Backbone, load_backbone
    from cuma.people.encoder import ProfileEncoder
    from cuma.people.profiles import Profile
    from cuma.reports.publish import push_to_hub
    from cuma.tuner.config import CumaConfig
    from cuma.tuner.layer import CumaLinear
    from cuma.tuner.model import CumaModel
    from cuma.tuner.router import Router

__version__ = "0.1.0"

_HOME = {
    "Backbone": "cuma.models.backbones",
    "CumaConfig": "cuma.tuner.config",
    "CumaLinear": "cuma.tuner.layer",
    "CumaModel": "cuma.tuner.model",
    "Profile": "cuma.people.profiles",
    "ProfileEncoder": "cuma.people.encoder",
    "Router": "cuma.tuner.router",
    "load_backbone": "cuma.models.backbones",
    "push_to_hub": "cuma.reports.publish",
}
"""Public name → the module that defines it."""

__all__ = [
    "Backbone",
    "CumaConfig",
    "CumaLinear",
    "CumaModel",
    "Profile",
    "ProfileEncoder",
    "Router",
    "__version__",
    "load_backbone",
    "push_to_hub",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'cuma' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_peft_hook.install()
