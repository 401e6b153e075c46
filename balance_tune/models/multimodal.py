"""The multimodal model: one encoder per modality, then a fusion."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_type_hints

import torch
from torch import Tensor, nn

from balance_tune.errors import UserError
from balance_tune.models.encoders import Encoder
from balance_tune.models.fusion import Features, Fusion
from balance_tune.models.pieces import encode_in_pieces, observers_of
from balance_tune.registry import encoders as encoder_registry
from balance_tune.registry import fusions, import_path, named
from balance_tune.tasks import Task

Inputs = dict[str, Tensor]
Policy = Literal["auto", "conv4d", "ndim>=2", "encoder", "encoder+head"]


class MultimodalModel(nn.Module):
    """Encoders (one per modality, in fusion order) and the fusion of their features.

    `task` says what its answers are: logits of classes, logits of labels, or numbers; C is how many there are.
    `bridge`, when a method sets it, encodes all modalities together instead (blocks between encoders). `piece`, when
    set, is how many rows are encoded at a time in training, so that less memory is needed (see `encode_in_pieces`).
    """

    def __init__(self, encoders: Mapping[str, Encoder], fusion: Fusion, task: Task = "classes") -> None:
        super().__init__()
        self.task = task
        for m in encoders:
            if not m or "." in m or hasattr(nn.ModuleDict, m):
                raise UserError(f"a modality needs a plain name, but `{m}` cannot be one; rename it in the dataset.")
        self.encoders = nn.ModuleDict(encoders)
        self.fusion = fusion
        self.bridge: Callable[[nn.ModuleDict, Inputs], Features] | None = None
        self.piece: int | None = None
        self._groups: dict[tuple[str, Policy], list[nn.Parameter]] = {}

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of the modalities, in order."""
        return tuple(self.encoders)

    @property
    def widths(self) -> dict[str, int]:
        """Feature width d_m of each modality."""
        return {m: int(getattr(e, "features")) for m, e in self.encoders.items()}  # noqa: B009

    @property
    def classes(self) -> int:
        """The number of answers, C."""
        return self.fusion.classes

    def encode(self, inputs: Inputs) -> Features:
        """Return {modality: (B, d_m)}.

        Args:
            inputs: {modality: (B, *shape)}.
        """
        if self.piece is not None and self.training and torch.is_grad_enabled():
            return encode_in_pieces(self._encode, inputs, self.piece, observers_of(self))
        return self._encode(inputs)

    def _encode(self, inputs: Inputs) -> Features:
        if self.bridge is not None:
            features = self.bridge(self.encoders, inputs)
        else:
            features = {m: encoder(inputs[m]) for m, encoder in self.encoders.items()}
        if not self.fusion.masks:
            return features
        present = {m: (inputs[m] != 0).flatten(1).any(1, keepdim=True) for m in features}
        return {m: h * present[m].to(h.dtype) for m, h in features.items()}

    def forward(self, inputs: Inputs) -> Tensor:
        """Return fused logits (B, C).

        Args:
            inputs: {modality: (B, *shape)}.
        """
        out: Tensor = self.fusion(self.encode(inputs))
        return out

    def parameters_of(self, modality: str, policy: Policy = "encoder") -> list[nn.Parameter]:
        """Return the encoder parameters of one modality that `policy` touches, in order of declaration.

        `auto` is `conv4d` where the encoder has 4-D weights (as the official OGM code) and `ndim>=2` elsewhere, unless
        the encoder says what it is for it (`Encoder.modulated`).
        The head's share of `encoder+head` comes from `Fusion.slices`.

        Args:
            modality: one of `modalities`.
            policy: which of the encoder's parameters.
        """
        if (modality, policy) not in self._groups:
            parameters = list(self.encoders[modality].parameters())
            key: tuple[str, Policy] = (modality, policy)
            preferred = str(getattr(self.encoders[modality], "modulated", ""))
            if policy == "auto" and preferred:
                policy = cast(Policy, preferred)
            conv = [p for p in parameters if p.dim() == 4]
            if policy == "conv4d" or (policy == "auto" and conv):
                parameters = conv
            elif policy in ("ndim>=2", "auto"):
                parameters = [p for p in parameters if p.dim() >= 2]
            self._groups[key] = parameters
            return parameters
        return self._groups[modality, policy]

    def gradients(self, modality: str, policy: Policy = "encoder") -> list[Tensor]:
        """Return the gradients (views, to be changed in place) that belong to one modality under `policy`.

        Args:
            modality: one of `modalities`.
            policy: which parameters; `encoder+head` adds the fusion's share.
        """
        gradients = [g for p in self.parameters_of(modality, policy) if (g := p.grad) is not None]
        if policy == "encoder+head":
            shares = [(p.grad, c) for p, c in self.fusion.slices()[modality] if p.grad is not None]
            gradients += [g[:, c] if g.dim() > 1 else g for g, c in shares]
        return gradients


def silence(inputs: Inputs, present: Collection[str]) -> Inputs:
    """Return the inputs with every modality that is not `present` set to zero.

    Args:
        inputs: {modality: (B, *shape)}.
        present: the modalities that stay.
    """
    return {m: x if m in present else torch.zeros_like(x) for m, x in inputs.items()}


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to make a model again: (shape, encoder name or import path, its settings) per modality.

    Or a whole model of the user's: `name` is the import path of something that takes the shapes {modality: shape}, the
    number of answers and `settings`, and returns a `MultimodalModel`; encoders and fusion are then its own.
    """

    encoders: Mapping[str, tuple[Sequence[int], str, Mapping[str, Any]]]
    classes: int
    fusion: str = "concat"
    fusion_settings: Mapping[str, Any] | None = None
    task: Task = "classes"
    name: str | None = None
    settings: Mapping[str, Any] | None = None

    def trained(self) -> ModelSpec:
        """Return the same without what only says where weights start; a trained model does not need it any more."""

        def kept(name: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
            start = getattr(_encoder_class(name), "start", ())
            return {k: v for k, v in settings.items() if k not in start}

        return replace(self, encoders={m: (s, n, kept(n, kw)) for m, (s, n, kw) in self.encoders.items()})

    def build(self, seed: int) -> MultimodalModel:
        """Return the model, initialised from `seed` alone; the caller's random state is left as it was.

        Args:
            seed: of the weights.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.name is not None:
                return _whole(self)
            encoders = {m: _encoder(m, *spec) for m, spec in self.encoders.items()}
            widths = {m: e.features for m, e in encoders.items()}
            fusion = _fusion(self.fusion, widths, self.classes, self.fusion_settings or {})
            return MultimodalModel(encoders, fusion, self.task)


def _whole(spec: ModelSpec) -> MultimodalModel:
    shapes = {m: tuple(shape) for m, (shape, _, _) in spec.encoders.items()}
    make = import_path("a model", str(spec.name))
    # a file that is read may name anything: as with encoders, what does not make a module is never called
    if not _makes_module(make):
        raise UserError(
            f"a model must be a class of torch modules, or a function annotated to return one (`-> MultimodalModel`), "
            f"but {spec.name} is neither."
        )
    try:
        model = make(shapes, spec.classes, **(spec.settings or {}))
    except UserError:
        raise
    except Exception as error:  # whatever the user's code raises becomes one line
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise UserError(
            f"model {spec.name} must take shapes, answers and its settings {dict(spec.settings or {})}, but: {reason}."
        ) from error
    if not isinstance(model, MultimodalModel):
        raise UserError(f"model {spec.name} must return a MultimodalModel, but returned a {type(model).__name__}.")
    if model.modalities != tuple(shapes) or model.classes != spec.classes:
        raise UserError(
            f"model {spec.name} must have the modalities {', '.join(shapes)} and {spec.classes} answers, but has "
            f"{', '.join(model.modalities)} and {model.classes}."
        )
    model.task = spec.task
    for m, encoder in model.encoders.items():
        _check_features(encoder, f"the encoder of {m} in {spec.name}")
        encoder.shape = shapes[m]  # type: ignore[assignment]
    return model


def _makes_module(make: Any) -> bool:
    if isinstance(make, type):
        return issubclass(make, nn.Module)
    if not inspect.isfunction(make):
        return False
    try:
        annotation = get_type_hints(make).get("return")
    except (NameError, AttributeError, TypeError):  # a name that only type checkers import
        return str(make.__annotations__.get("return")).rpartition(".")[2] == MultimodalModel.__name__
    return isinstance(annotation, type) and issubclass(annotation, nn.Module)


def _encoder_class(name: str) -> Any:
    return named(encoder_registry(), name)


def _check_features(encoder: object, name: str) -> None:
    features = getattr(encoder, "features", None)
    if isinstance(features, bool) or not isinstance(features, int):
        raise UserError(f"an encoder must say its feature width as `features: int`, but {name} does not.")
    if features < 1:
        raise UserError(f"`features >= 1` must hold for encoder {name}, but got {features}.")


def _encoder(modality: str, shape: Sequence[int], name: str, settings: Mapping[str, Any]) -> Encoder:
    cls = _encoder_class(name)
    # a file that is read may name anything: what is no module is never called
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise UserError(f"an encoder must be a class of torch modules, but {name} is not (modality {modality}).")
    try:
        encoder = cls(tuple(shape), **settings)
    except UserError as error:
        raise UserError(f"{str(error).rstrip('.')} (modality {modality}).") from error
    except Exception as error:  # its own code, or a setting of a kind that torch rejects: one line either way
        kind = "" if isinstance(error, TypeError) else f"{type(error).__name__}: "
        raise UserError(
            f"encoder {name} of {modality} must accept its settings {dict(settings)}, but: {kind}{_first_line(error)}."
        ) from error
    _check_features(encoder, name)
    typed = cast(Encoder, encoder)  # or a module of the user's that does without what methods may ask of encoders
    typed.shape = tuple(shape)
    return typed


def _fusion(name: str, widths: Mapping[str, int], classes: int, settings: Mapping[str, Any]) -> Fusion:
    cls = named(fusions(), name)
    # as with encoders: what is no fusion is never called
    if not (isinstance(cls, type) and issubclass(cls, Fusion)):
        raise UserError(f"a fusion must be a subclass of Fusion, but {name} is not.")
    try:
        fusion: Fusion = cls(widths, classes, **settings)
    except UserError:
        raise
    except Exception as error:  # its own code, or a setting that it does not have: one line either way
        kind = "" if isinstance(error, TypeError) else f"{type(error).__name__}: "
        raise UserError(
            f"fusion {name} must accept its settings {dict(settings)}, but: {kind}{_first_line(error)}."
        ) from error
    return fusion


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]
