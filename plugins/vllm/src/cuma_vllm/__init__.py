"""Serves a Cultural Mixture of Adapters in vLLM: the same tokens as transformers with cuma, at vLLM's speed.

The modules `errors`, `manifest`, `adapter_config`, `adapter`, `person` and `mixture` know torch and safetensors only;
the others know vLLM. None knows cuma: a companion process in cuma's own environment says what a profile means.
"""

__version__ = "0.1.0"
