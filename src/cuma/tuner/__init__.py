"""The method: a mixture of LoRA experts routed by what is asked and by who asks. Knows torch and peft only."""

import peft as _peft  # noqa: F401  first of all: importing PEFT registers the method, which needs our modules whole
