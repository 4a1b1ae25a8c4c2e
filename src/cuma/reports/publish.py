"""push_to_hub: a trained run's adapter, with its model card, on the Hugging Face Hub. Private unless said otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from httpx2 import TransportError
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from cuma.errors import PublishError
from cuma.reports.model_card import CARD_NAME, check_trained, write_model_card
from cuma.runs.folder import Run, read_json

PUBLISHED = ("adapter_config.json", "adapter_model.safetensors", "cuma_manifest.json", CARD_NAME)
"""All that leaves this machine: no optimiser state, no predictions, no log, no recipe."""
UNAUTHORISED = (401, 403)


def push_to_hub(
    run: str | Path,
    repo_id: str,
    *,
    private: bool = True,
    revision: str | None = None,
    keep_card: bool = False,
    api: HfApi | None = None,
) -> str:
    """Upload a run's adapter and its model card, and return the commit's address.

    Args:
        run: the run's folder.
        repo_id: "your-name/your-repository"; made if it is absent, else added to.
        private: whether its owners only can see a repository that is made now. One that is there already stays what it
            is; if everybody can see it, private=True is refused.
        revision: branch to commit to, made if it is absent; None: the default one.
        keep_card: upload README.md of the adapter folder as it is, for instance edited by hand.
        api: a client, for another endpoint or token; None: the one that `hf auth login` and HF_ENDPOINT set up.

    Raises:
        RunError: the run is not trained or leaves nothing to publish.
        PublishError: not logged in, not allowed, not reachable, public although private is wanted, or the files name a
            folder on this machine.
    """
    opened = Run.open(run)
    check_trained(opened)
    _refuse_local_names(opened)
    if not keep_card:
        write_model_card(run, repo_id)
    elif not (opened.adapter / CARD_NAME).is_file():
        raise PublishError(f"{opened.adapter} has no {CARD_NAME} to keep. Run `cuma card {run}`, and edit the card.")
    api = api or HfApi()
    if not (api.token or get_token()):
        raise PublishError("You are not logged in to the Hub. Run `hf auth login`, with a token that may write.")
    try:
        return _upload(api, opened.adapter, repo_id, private, revision)
    except (ValueError, HfHubHTTPError) as error:
        raise PublishError(_refusal(error, repo_id, revision)) from error
    except OfflineModeIsEnabled as error:
        raise PublishError("HF_HUB_OFFLINE is set, so nothing can be uploaded. Unset it and try again.") from error
    except TransportError as error:
        raise PublishError(
            f"The Hub cannot be reached ({type(error).__name__}). Nothing is lost: connect, and give the command again."
        ) from error


def _refusal(error: ValueError | HfHubHTTPError, repo_id: str, revision: str | None) -> str:
    """What the Hub means by it."""
    if isinstance(error, ValueError | BadRequestError):  # a name that cannot be, or metadata that it does not take
        return f"The Hub does not accept {repo_id!r}: {_one_line(error)}"
    if isinstance(error, RevisionNotFoundError):
        return f"{repo_id!r} has no revision {revision!r}, and it could not be made."
    status = None if error.response is None else error.response.status_code
    if isinstance(error, RepositoryNotFoundError) or status in UNAUTHORISED:
        return (
            f"The Hub does not let you write to {repo_id!r}. Log in with `hf auth login`, with a token that may write, "
            "and check the name in front of the slash."
        )
    return f"The Hub refused {repo_id!r}: {_one_line(error)}"


def _upload(api: HfApi, folder: Path, repo_id: str, private: bool, revision: str | None) -> str:
    api.create_repo(repo_id, private=private, exist_ok=True)
    if private and not api.model_info(repo_id).private:
        raise PublishError(
            f"{repo_id!r} exists and everybody can see it. Give --public (private=False) if that is meant."
        )
    if revision is not None:
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    commit = api.upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        allow_patterns=list(PUBLISHED),
        revision=revision,
        commit_message="Upload a cuma adapter",
    )
    return str(commit.commit_url)


def _refuse_local_names(run: Run) -> None:
    """A path tells who works where, and nobody else could load the adapter."""
    config = read_json(run.adapter / "adapter_config.json")
    encoder: dict[str, Any] = config.get("profile_encoder") or {}
    for what, name in (("base model", config["base_model_name_or_path"]), ("profile encoder", encoder.get("id"))):
        if name and (Path(name).expanduser().is_dir() or Path(name).is_absolute() or name.startswith((".", "~"))):
            raise PublishError(
                f"The adapter's configuration names its {what} by a folder on this machine, which others do not have. "
                f"Train with the {what}'s Hub id."
            )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
