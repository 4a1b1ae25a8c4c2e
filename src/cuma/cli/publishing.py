"""Verbs that hand adapters on: import-reference, card, push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cuma.cli.runs import RunFolder


def import_reference_adapter(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="An adapter saved by the authors' released code.")],
    base: Annotated[str, typer.Option(help="The model it was trained on: a name, a folder or a Hub id.")],
    output: Annotated[Path, typer.Option(help="Where our adapter goes.")],
    top_k: Annotated[int | None, typer.Option(min=1, help="Experts a token, if its configuration is silent.")] = None,
) -> None:
    """Read an adapter of the authors' released code into ours; it computes the same."""
    from cuma.exchange.reference_import import import_reference

    config = import_reference(source, base, output, top_k=top_k)
    typer.echo(
        f"{output}  {config.num_experts} experts of rank {config.r}, {config.top_k} a token; its router reads "
        f"{config.profile_dim} numbers about the person."
    )


def card(run: RunFolder) -> None:
    """Write a run's model card, without publishing anything."""
    from cuma.reports.model_card import write_model_card

    typer.echo(str(write_model_card(run)))


def push(
    run: RunFolder,
    repo_id: Annotated[str, typer.Argument(metavar="REPO_ID", help="Such as your-name/your-repository.")],
    private: Annotated[bool, typer.Option("--private/--public", help="Who sees a repository that is made now.")] = True,
    revision: Annotated[str | None, typer.Option(help="Branch to commit to, made if it is absent.")] = None,
    keep_card: Annotated[
        bool, typer.Option("--keep-card", help="Upload the card that lies in RUN/adapter, as you edited it.")
    ] = False,
) -> None:
    """Put a run's adapter and its model card on the Hugging Face Hub."""
    from cuma.reports.publish import push_to_hub

    typer.echo(push_to_hub(run, repo_id, private=private, revision=revision, keep_card=keep_card))
