"""Which parameters are trained: named groups of a family are frozen, and what is left is reported."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from hf_asr.config.arguments import FreezeArguments
from hf_asr.errors import UserError
from hf_asr.models.family import ModelFamily

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainableReport:
    """How much of a model is trained.

    Attributes:
        trainable: Parameters that get gradients.
        total: All parameters, tied ones counted once.
    """

    trainable: int
    total: int

    def __str__(self) -> str:
        share = 100 * self.trainable / max(self.total, 1)
        return f"{self.trainable:,} of {self.total:,} parameters trained ({share:.2f} %)"


def trainable_report(model: nn.Module) -> TrainableReport:
    """Count what is trained in ``model``."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return TrainableReport(sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes))


def group_globs(family: ModelFamily, group: str) -> tuple[str, ...]:
    """Return the parameter-name globs of a named group; a name with ``*`` or ``.`` is a glob itself.

    Raises:
        UserError: The name is neither.
    """
    if group in family.freezable:
        return tuple(family.freezable[group])
    if "*" in group or "." in group:
        return (group,)
    known = ", ".join(sorted(family.freezable))
    raise UserError(
        f"freeze: expected a parameter group of {family.name} ({known}) or a glob over parameter names such as "
        f"'model.encoder.*', found '{group}'. Use one of the names."
    )


def matching_names(model: nn.Module, globs: Iterable[str]) -> list[str]:
    """Return the names of parameters that match any glob."""
    patterns = tuple(globs)
    return [name for name, _ in model.named_parameters() if any(fnmatchcase(name, glob) for glob in patterns)]


def names_of_group(model: nn.Module, family: ModelFamily, group: str) -> list[str]:
    """Return a group's parameter names.

    Raises:
        UserError: Nothing in the model matches: a freeze that freezes nothing is a mistake.
    """
    names = matching_names(model, group_globs(family, group))
    if not names:
        raise UserError(
            f"freeze: '{group}' was expected to match parameters of this {family.name} model, and matches none. "
            "Remove it, or look the names up with model.named_parameters()."
        )
    return names


def encoder_layer_names(model: nn.Module, family: ModelFamily, last: int) -> tuple[list[str], list[str]]:
    """Split the encoder's parameters into (frozen, trained) for "train the last ``last`` layers".

    Raises:
        UserError: ``last`` is not between 0 and the number of encoder layers.
    """
    encoder = names_of_group(model, family, "encoder")
    prefix = layers_prefix(encoder, family) + "."
    layers = {int(name[len(prefix) :].split(".")[0]) for name in encoder if name.startswith(prefix)}
    if not 0 <= last <= len(layers):
        raise UserError(
            f"freeze.last_n_encoder_layers: expected 0 to {len(layers)} (this encoder's layers), found {last}."
        )
    kept = {f"{prefix}{index}." for index in range(len(layers) - last, len(layers))}
    trained = [name for name in encoder if any(name.startswith(start) for start in kept)]
    if last:  # the norm after the last layer belongs to it
        trained += [name for name in encoder if name.split(".")[-2] == "layer_norm" and not name.startswith(prefix)]
    return [name for name in encoder if name not in set(trained)], trained


def layers_prefix(names: Iterable[str], family: ModelFamily) -> str:
    """Return where the encoder's numbered layers are among the places that the family knows, ``|`` between them."""
    known, present = family.encoder_layers_prefix.split("|"), tuple(names)
    return next((place for place in known if any(name.startswith(f"{place}.0.") for name in present)), known[0])


def frozen_names(model: nn.Module, family: ModelFamily, freeze: FreezeArguments) -> set[str]:
    """Return the names of the parameters that ``freeze`` freezes.

    Raises:
        UserError: A name matches nothing.
    """
    frozen: set[str] = set()
    for group in freeze.groups:
        frozen.update(names_of_group(model, family, group))
    if freeze.last_n_encoder_layers is not None:
        rest, trained = encoder_layer_names(model, family, freeze.last_n_encoder_layers)
        if trained and frozen.issuperset(trained):
            raise UserError(
                f"freeze.last_n_encoder_layers: expected layers left to train, found that freeze.groups "
                f"({', '.join(freeze.groups)}) freezes them all. Take the encoder out of freeze.groups: "
                "last_n_encoder_layers already freezes the rest of it."
            )
        frozen.update(rest)
    return frozen


def set_trainable(model: nn.Module, names: Iterable[str], trained: bool) -> None:
    """Give the named parameters gradients, or none; what has none keeps no old gradient either."""
    wanted = set(names)
    for name, parameter in model.named_parameters():
        if name in wanted:
            parameter.requires_grad_(trained)
            if not trained:
                parameter.grad = None


def hold_frozen_statistics(model: nn.Module) -> None:
    """Have batch norms whose weights are frozen use their stored mean and variance, and leave them as they are.

    In training mode they would normalise by each batch and move the stored ones, frozen or not. Asked at every forward,
    as an unfreezing may come and the Trainer puts the whole model into training mode at every step.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.register_forward_pre_hook(_evaluate_if_frozen)


def _evaluate_if_frozen(module: nn.Module, inputs: object) -> None:
    own = [*module.parameters()]
    if own and not any(parameter.requires_grad for parameter in own):
        module.eval()


def apply_freezing(model: nn.Module, family: ModelFamily, freeze: FreezeArguments) -> TrainableReport:
    """Freeze what ``freeze`` names, in place, and report what is left.

    Raises:
        UserError: A name matches nothing, or nothing is left to train.
    """
    set_trainable(model, frozen_names(model, family, freeze), False)
    hold_frozen_statistics(model)
    report = trainable_report(model)
    if report.trainable == 0:
        raise UserError("freeze: expected something left to train, found every parameter frozen. Freeze fewer groups.")
    logger.info("%s", report)
    return report
