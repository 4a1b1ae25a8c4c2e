"""From the encoder's raw output to what the router sees: centre, scale, project.

[h ⊕ e_d] taken literally nearly collapses: a unit-norm e_d is small beside h. So the adapter keeps
the mean of its training profiles and one scale, chosen so that the profile enters the router with about h's weight.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cuma.errors import ProfileError
from cuma.tuner.config import CumaConfig
from cuma.tuner.precision import no_autocast


class Standardiser(nn.Module):
    """(e − mean) · scale, then the optional projection. Belongs to one adapter and is saved with it.

    The statistics are parameters without gradient, not buffers: whoever copies an adapter by its named parameters
    (TRL's reference model) then copies them too. A scale of 0 means "not fitted yet". A row of zeros, which no sentence
    encoder produces, is the empty profile and stays zero, so that absence is exactly the centre of the people seen.
    The scale has one dimension because FSDP shards no scalars.
    """

    def __init__(self, hidden_size: int, config: CumaConfig, device: torch.device | str | None = None) -> None:
        """Args:
        hidden_size: H of the adapted layers; sets the default target norm sqrt(H) / 4.
        config: the adapter's configuration.
        device: where the parameters are made.
        """
        super().__init__()
        dim, projected = config.profile_dim, config.profile_projection_dim
        self.target_norm = config.profile_scale or hidden_size**0.5 / 4
        self.mean = nn.Parameter(torch.zeros(dim, device=device, dtype=torch.float32), requires_grad=False)
        self.scale = nn.Parameter(torch.zeros(1, device=device, dtype=torch.float32), requires_grad=False)
        self._known: tuple[int, int] | None = None
        self.projection: nn.Linear | None = None
        if projected is not None:
            self.projection = nn.Linear(dim, projected, bias=False, device=device, dtype=torch.float32)
            # Keeps the expected norm, so that the projected profile weighs what the unprojected one would.
            nn.init.normal_(self.projection.weight, std=projected**-0.5)

    @property
    def fitted(self) -> bool:
        """True once `fit` has run, here or before saving. Reads the value again only after it was written to: on a GPU
        that waits for everything that was queued before. A model on the device "meta" has no values: it counts as
        fitted."""
        if self.scale.is_meta:
            return True
        written = (id(self.scale), self.scale._version)
        if self._known != written and bool(self.scale.item()):
            self._known = written
        return self._known == written

    @torch.no_grad()
    def fit(self, embeds: Tensor) -> None:
        """Set mean and scale from the training profiles.

        Args:
            embeds: [N, D] raw encoder output, one row per distinct profile; rows of zeros (empty profiles) are ignored.

        Raises:
            ProfileError: wrong width, non-finite values, or fewer than two different profiles.
        """
        check_embeds(embeds, self.mean.numel())
        rows = embeds[present(embeds)].to("cpu", self.mean.dtype)  # so that every device has the same statistics
        mean = rows.mean(0) if len(rows) else torch.zeros(embeds.shape[1])
        norm = (rows - mean).square().sum(-1).mean().sqrt()
        # Also false for NaN, the norm of no rows. Equal rows differ from their mean by rounding.
        if not norm > 1e-6 * rows.norm(dim=-1).mean():
            raise ProfileError(
                f"fit_profiles needs at least two different non-empty profiles; got {len(rows)} non-empty rows that do "
                'not differ. To train without profiles use CumaConfig(router_input="semantic").'
            )
        self.mean.copy_(mean)
        self.scale.copy_(self.target_norm / norm)

    def forward(self, embeds: Tensor) -> Tensor:
        """Args:
            embeds: [B, D] raw encoder output, of any dtype.

        Returns:
            [B, D'] fp32, D' the projection's width or D; zero rows for empty profiles.
        """
        with no_autocast(self.mean.device.type):
            mean, scale = self.mean.float(), self.scale.float()
            standard = (embeds.to(mean) - mean) * scale * present(embeds).to(mean).unsqueeze(-1)
            return standard if self.projection is None else functional.linear(standard, self.projection.weight.float())


def present(embeds: Tensor) -> Tensor:
    """bool [B]: False for the rows of zeros, which stand for empty profiles."""
    return (embeds != 0).any(dim=-1)


def check_embeds(embeds: Tensor, profile_dim: int) -> None:
    """Raise a ProfileError that names the fix unless `embeds` is a finite [B, profile_dim] tensor."""
    if not isinstance(embeds, Tensor) or embeds.dim() != 2:
        got = list(embeds.shape) if isinstance(embeds, Tensor) else type(embeds).__name__
        raise ProfileError(
            f"profile_embeds must be a tensor [B, {profile_dim}], one row per person; got {got}. "
            "Pass profile_embeds=encoder(profiles), with a list of profiles even for one person."
        )
    if embeds.shape[1] != profile_dim:
        raise ProfileError(
            f"profile_embeds have {embeds.shape[1]} columns but the adapter was built for {profile_dim}. Use the "
            f"encoder it was trained with, or CumaConfig(profile_dim={embeds.shape[1]}) for a new adapter."
        )
    # A compiled graph cannot look at values, and would be cut in two here; the device "meta" has none.
    if not torch.compiler.is_compiling() and not embeds.is_meta and not torch.isfinite(embeds).all():
        raise ProfileError("profile_embeds hold NaN or infinite values. Check the encoder that made them.")


def check_rows(rows: Tensor, profile: Tensor | None) -> None:
    """Raise a ProfileError unless `rows` is an integer [B, T] of rows of `profile` [P, D'], or −1.

    Values are looked at on the CPU only: elsewhere that would wait for the device.
    """
    if not isinstance(rows, Tensor) or rows.dim() != 2 or rows.is_floating_point() or rows.dtype == torch.bool:
        got = f"{rows.dtype} {list(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
        raise ProfileError(
            f"profile_rows must be an integer tensor [B, T], each token's row of profile_embeds; got {got}."
        )
    people = 0 if profile is None else profile.shape[0]
    if torch.compiler.is_compiling() or rows.device.type != "cpu" or not rows.numel():
        return
    if int(rows.max()) >= people or int(rows.min()) < -1:
        raise ProfileError(
            f"profile_rows run from {int(rows.min())} to {int(rows.max())} but profile_embeds has {people} rows: "
            f"allowed are 0 to {people - 1}, and −1 for padding."
        )
