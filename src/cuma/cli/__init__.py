"""The command line."""

from cuma.cli.main import app, main
from cuma.cli.shell import EXIT_ERROR, EXIT_INTERRUPTED

__all__ = ["EXIT_ERROR", "EXIT_INTERRUPTED", "app", "main"]
