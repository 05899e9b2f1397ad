"""Transformers over trajectories: what comes next, as a language model has it, and what is hidden, as BERT does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldmodel.data import Spec
from worldmodel.data.masking import mask_steps
from worldmodel.nn import ranks, readout, symlog
from worldmodel.nn.transformer import Transformer, positions
from worldmodel.objectives.base import Objective, ObjectiveConfig, Outcome, objectives
from worldmodel.scene import Scene


def executed(scene: Scene) -> Tensor:
    """[B, T]: whether the action chosen at a step is known to have led to the next step of the sequence."""
    known = scene.pairs(1)
    return torch.cat([known, torch.zeros_like(known[:, :1])], dim=1)


@dataclass(frozen=True)
class MaskedTrajectoryConfig(ObjectiveConfig):
    share: float = 0.3
    """How many steps are hidden, and how many actions, independently."""
    span: int = 2
    """Steps of a stretch that is hidden together."""
    units: int = 256
    layers: int = 2
    heads: int = 4
    decay: float = 0.99
    """How much of the target encoder is kept at each update."""


@objectives.register("masked-trajectory", MaskedTrajectoryConfig)
class MaskedTrajectory(Objective):
    """Embeddings and actions that were hidden, told by a transformer from those around them in the same episode.

    BERT (arXiv 1810.04805) over trajectories (MTM, arXiv 2305.02968). The error is squared: of embeddings against those of
    the target encoder, normalised to mean 0 and variance 1 (data2vec, arXiv 2202.03555), of continuous actions as they are;
    of discrete ones it is the cross-entropy. It is the encoder's: latent features, which remember what was hidden, are not read.
    """

    target = "momentum"
    least_length = 2

    def __init__(self, config: MaskedTrajectoryConfig, *, spec: Spec, embed_dim: int) -> None:
        super().__init__()
        self.config, self.target_rate, self.action = config, 1 - config.decay, spec.action
        self.observed, self.acted = nn.Linear(embed_dim, config.units), nn.Linear(spec.action.dim, config.units)
        # In place of a hidden observation and of a hidden action, and what tells the one kind of token from the other.
        self.hidden, self.kind = (nn.Parameter(0.02 * torch.randn(2, config.units)) for _ in range(2))
        self.transformer = Transformer(config.units, config.layers, config.heads)
        self.embedding_head = nn.Linear(config.units, embed_dim)
        self.action_head = nn.Linear(config.units, spec.action.dim)

    def forward(self, scene: Scene) -> Outcome:
        config, (batch, length), device = self.config, scene.valid.shape, scene.valid.device
        hide = [mask_steps(batch, length, config.share, config.span, device) for _ in range(2)]
        known = executed(scene)
        tokens = self.tokens(scene, hide[0], hide[1] | ~known)
        seen = self.transformer(tokens.flatten(1, 2), self.sees(scene)).unflatten(1, (length, 2))
        target = F.layer_norm(scene.target_embedding.float(), scene.embedding.shape[-1:])
        of_embedding = (self.embedding_head(seen[:, :, 0]).float() - target).square().mean(-1)
        of_action = self.action_error(self.action_head(seen[:, :, 1]).float(), scene.steps.action)
        losses = {
            "masked-trajectory": ranks.mean(of_embedding.flatten(), (hide[0] & scene.valid).flatten()),
            "masked-trajectory_action": ranks.mean(of_action.flatten(), (hide[1] & known).flatten()),
        }
        return Outcome({name: config.weight * loss for name, loss in losses.items()})

    def tokens(self, scene: Scene, no_embedding: Tensor, no_action: Tensor) -> Tensor:
        """[B, T, 2, units]: of each step its observation and its action, or what stands for them where [B, T] says so."""
        pairs = ((self.observed(scene.embedding), no_embedding), (self.acted(scene.steps.action), no_action))
        shown = [
            torch.where(no.unsqueeze(-1), hidden.to(x.dtype), x)
            for (x, no), hidden in zip(pairs, self.hidden, strict=True)
        ]
        places = positions(scene.length, self.config.units, no_action.device).unsqueeze(1)
        return torch.stack(shown, dim=2) + self.kind + places

    def sees(self, scene: Scene) -> Tensor:
        """[B, 2 T, 2 T]: tokens of one episode see each other; padding is seen by nobody but itself."""
        together = scene.episode.unsqueeze(2) == scene.episode.unsqueeze(1)
        together = together & scene.valid.unsqueeze(1)
        together = together | torch.eye(scene.length, dtype=torch.bool, device=together.device)
        return together.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)

    def action_error(self, told: Tensor, action: Tensor) -> Tensor:
        """[..., A], [..., A] → [...]: the mean squared error, or the cross-entropy, mean over discrete variables."""
        if not self.action.discrete:
            return (told - action).square().mean(-1)
        sizes = list(self.action.categories)
        parts = zip(told.split(sizes, dim=-1), action.split(sizes, dim=-1), strict=True)
        return torch.stack([-(to * logits.log_softmax(-1)).sum(-1) for logits, to in parts]).mean(0)


@dataclass(frozen=True)
class TokensConfig(ObjectiveConfig):
    codebooks: int = 8
    """Codes that an observation is described by, independent of each other."""
    codes: int = 512
    """Entries of each codebook."""
    dim: int = 16
    """Of the vectors that are looked up."""
    units: int = 256
    """Width of the transformer, where there is no dynamics model, and of the prediction."""
    layers: int = 2
    heads: int = 4
    statistics_rate: float = 0.01
    """How far the running mean and variance of the observation's entries move at each update."""


@objectives.register("tokens", TokensConfig)
class Tokens(Objective):
    """The next observation's codes, told from the past and the action: −log likelihood, as a language model has it.

    Codes are the nearest entries of random codebooks to random projections of the observation, normalised by running
    statistics (BEST-RQ, arXiv 2202.01855): being of the observation itself, and never learned, they cannot collapse. Beside a
    dynamics model they are told from what it imagines one step ahead; alone, from a causal transformer over embeddings and
    actions (GPT, as in IRIS, arXiv 2209.00588).
    """

    least_length = 2
    mean: Tensor
    variance: Tensor
    seen: Tensor
    projections: Tensor
    codebooks: Tensor

    def __init__(self, config: TokensConfig, *, spec: Spec, embed_dim: int, feature_dim: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.transformer = None
        if feature_dim is None:
            self.inputs = nn.Linear(embed_dim + spec.action.dim, config.units)
            self.transformer = Transformer(config.units, config.layers, config.heads)
        outputs = config.codebooks * config.codes
        self.head = readout(feature_dim or config.units, config.units, 1, outputs, "rmsnorm-silu")
        self.names = tuple(name for name, entry in spec.observation.items() if entry.kind != "text")
        entries = sum(math.prod(spec.observation[name].shape) for name in self.names)
        self.register_buffer("mean", torch.zeros(entries))
        self.register_buffer("variance", torch.ones(entries))
        self.register_buffer("seen", torch.zeros(()))
        drawn = torch.randn(entries, config.codebooks * config.dim) / entries**0.5
        self.register_buffer("projections", drawn)
        codebooks = torch.randn(config.codebooks, config.codes, config.dim)
        self.register_buffer("codebooks", F.normalize(codebooks, dim=-1))

    def flat(self, observation: dict[str, Tensor]) -> Tensor:
        """All entries of observations [B, T, ...] as vectors [B, T, D]; vectors in symlog space."""
        parts = []
        for name in self.names:
            value = observation[name].float().flatten(2)
            parts.append(value / 255 if observation[name].ndim == 5 else symlog(value))
        return torch.cat(parts, dim=-1)

    @torch.no_grad()
    def encode(self, observation: dict[str, Tensor]) -> Tensor:
        """The codes of observations [B, T, ...]: [B, T, codebooks]."""
        normal = (self.flat(observation) - self.mean) / (self.variance + 1e-4).sqrt()
        projected = (normal @ self.projections).unflatten(-1, (self.config.codebooks, self.config.dim))
        return torch.einsum("btgd,gkd->btgk", F.normalize(projected, dim=-1), self.codebooks).argmax(-1)

    def forward(self, scene: Scene) -> Outcome:
        with torch.autocast(scene.valid.device.type, enabled=False):
            codes = self.encode(scene.steps.observation)[:, 1:]
        logits = self.head(self.past(scene)).float().unflatten(-1, (self.config.codebooks, self.config.codes))
        together = scene.pairs(1).flatten()
        loss = F.cross_entropy(logits.flatten(0, 2), codes.flatten(), reduction="none").unflatten(
            0, (-1, codes.shape[-1])
        )
        right = (logits.argmax(-1) == codes).float().mean(-1).flatten()
        outcome = Outcome({"tokens": self.config.weight * ranks.mean(loss.mean(-1), together)})
        outcome.metrics["tokens_right"] = ranks.mean(right, together).detach()
        flat, valid = self.flat(scene.steps.observation).flatten(0, 1), scene.valid.flatten()
        mean = ranks.mean(flat, valid)
        outcome.pending = {"mean": mean, "variance": ranks.mean((flat - mean).square(), valid)}
        return outcome

    def past(self, scene: Scene) -> Tensor:
        """What the step after each is told from: [B, T − 1, D]."""
        if self.transformer is None:
            return scene.ahead(1)
        action = scene.steps.action.masked_fill(~executed(scene).unsqueeze(-1), 0.0)
        tokens = self.inputs(torch.cat([scene.embedding, action.to(scene.embedding.dtype)], dim=-1))
        tokens = tokens + positions(scene.length, self.config.units, tokens.device)
        together = scene.episode.unsqueeze(2) == scene.episode.unsqueeze(1)
        return self.transformer(tokens, together.tril())[:, :-1]

    @torch.no_grad()
    def after_update(self, pending: dict[str, Tensor], progress: float) -> None:
        # The first batch's statistics are taken whole.
        rate = torch.where(self.seen > 0, self.config.statistics_rate, 1.0)
        self.mean.lerp_(pending["mean"], rate)
        self.variance.lerp_(pending["variance"], rate)
        self.seen.fill_(1.0)
