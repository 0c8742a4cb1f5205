"""Courses of the learning rate: transformers' by name, torch's one-cycle, and the part of them that a late group takes.

Every schedule but plateau is a function of the step: a ``LambdaLR`` whose factors are computed from the settings, never
kept in a checkpoint, so a resumed training has the rates that one in one piece has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from transformers import SchedulerType, TrainingArguments, get_scheduler

from hf_asr.errors import UserError

# Names that users know a schedule by, beside transformers' own.
ALIASES = {"plateau": "reduce_lr_on_plateau", "wsd": "warmup_stable_decay"}
ONE_CYCLE = "one_cycle"
PLATEAU = "reduce_lr_on_plateau"
STABLE = "warmup_stable_decay"
# Share of all steps in which warmup_stable_decay falls unless told otherwise: 10 to 20 % are enough (Haegele et al.
# 2024, "Scaling laws and compute-optimal training beyond fixed training durations").
DECAY_SHARE = 0.2


def scheduler_arguments(scheduler: Any) -> dict[str, Any]:
    """Turn ``training.scheduler`` (a name, or a mapping with ``name``) into the Trainer's two keys.

    The Trainer knows no one-cycle: its name then stands among the schedule's own keys, for :func:`make_schedule`.
    """
    if scheduler is None:
        return {}
    given = {"name": scheduler} if isinstance(scheduler, str) else dict(scheduler)
    name = ALIASES.get(given["name"], given.pop("name"))
    given.pop("name", None)
    if name == ONE_CYCLE:
        return {"lr_scheduler_type": "linear", "lr_scheduler_kwargs": {"name": ONE_CYCLE, **given}}
    return {"lr_scheduler_type": name, **({"lr_scheduler_kwargs": given} if given else {})}


def make_schedule(args: TrainingArguments, optimizer: Any, total_steps: int) -> LRScheduler:
    """Make the schedule that ``training.scheduler`` names.

    Args:
        args: The Trainer's arguments, from :func:`scheduler_arguments`.
        optimizer: What has the parameter groups; each keeps its own highest rate.
        total_steps: Optimiser steps of the whole training.

    Raises:
        UserError: The schedule's own keys do not fit each other or the number of steps.
    """
    given: Any = args.lr_scheduler_kwargs
    own: dict[str, Any] = dict(given or {})
    name = own.pop("name", SchedulerType(args.lr_scheduler_type).value)
    warmup = args.get_warmup_steps(total_steps)
    if name == ONE_CYCLE:
        return LambdaLR(optimizer, partial(factor_at, one_cycle_factors(total_steps, warmup, **own)))
    if name == PLATEAU:
        own = {"mode": "max" if args.greater_is_better else "min", **own}
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
    if name == STABLE:
        own |= stable_steps(own, warmup, total_steps)
    length = None if name == STABLE else total_steps  # the sum of its phases
    try:
        made: LRScheduler = get_scheduler(name, optimizer, warmup, length, own)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"training.scheduler: expected keys that {name} takes and that go together, found {own}: {error}. "
            "Change them."
        ) from error
    return made


def check_schedule(args: TrainingArguments) -> None:
    """Make the schedule once, for nothing: its own keys are else first looked at when training begins.

    Raises:
        UserError: They do not fit each other, or the number of steps where ``training.max_steps`` gives it.
    """
    given: Any = args.lr_scheduler_kwargs
    steps = args.max_steps
    if steps <= 0:
        if args.lr_scheduler_type == STABLE and given:
            return  # its phases are counted against steps that nobody knows yet
        steps = 2 * args.get_warmup_steps(1000) + 1000
    made: Any = make_schedule(args, torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate), steps)
    try:
        for step in (steps // 2, steps) if isinstance(made, LambdaLR) else ():
            float(made.lr_lambdas[0](step))
    except (ValueError, TypeError, ArithmeticError) as error:
        raise UserError(
            f"training.scheduler: expected values that a rate can be computed from, found {given}: {error}. Change "
            "them."
        ) from error


def stable_steps(own: Mapping[str, Any], warmup: int, total_steps: int) -> dict[str, int]:
    """Return how many steps a warm-up-stable-decay schedule stays up and falls, where its keys leave it open.

    Raises:
        UserError: The phases do not fit into the training.
    """
    stable, decay = own.get("num_stable_steps"), own.get("num_decay_steps")
    if decay is None:
        decay = round(DECAY_SHARE * total_steps) if stable is None else total_steps - warmup - int(stable)
    stable = total_steps - warmup - int(decay) if stable is None else int(stable)
    if stable < 0 or decay < 0:
        raise UserError(
            f"training.scheduler: expected warm-up, num_stable_steps and num_decay_steps of at most {total_steps} "
            f"steps together, found a warm-up of {warmup} and {dict(own)}. Lower one, or training.warmup_steps."
        )
    return {"num_stable_steps": stable, "num_decay_steps": int(decay)}


def one_cycle_factors(total_steps: int, warmup: int, **own: Any) -> tuple[float, ...]:
    """Return the course of torch's ``OneCycleLR`` (Smith and Topin 2018), step 0 to ``total_steps``, its peak as 1.

    The rate rises for the warm-up's steps, from 1 / ``div_factor``, and falls for all others; momentum stays as it is,
    which 8-bit optimisers and Adafactor could not change.

    Args:
        total_steps: Optimiser steps of the whole training; the one after it has the lowest rate.
        warmup: Steps that the rate rises for; at least 1.
        own: ``div_factor``, ``final_div_factor``, ``anneal_strategy``, ``three_phase``.

    Raises:
        UserError: A value is refused, or three phases do not fit.
    """
    rising = min(max(warmup, 1), total_steps)
    if own.get("three_phase") and 2 * rising >= total_steps:
        raise UserError(
            f"training.warmup_steps: expected less than half of the {total_steps} steps where one_cycle has three "
            f"phases (up, down, out), found {rising}. Lower it."
        )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    share = (rising + 1) / (total_steps + 1)
    try:
        course = OneCycleLR(optimizer, 1.0, total_steps + 1, pct_start=share, cycle_momentum=False, **own)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise UserError(
            f"training.scheduler: expected keys of one_cycle, found {own}: {error}. Change them."
        ) from error
    factors = [optimizer.param_groups[0]["lr"]]
    for _ in range(total_steps):
        optimizer.step()  # torch wants it before the schedule's
        course.step()
        factors.append(optimizer.param_groups[0]["lr"])
    return tuple(factors)


def factor_at(factors: Sequence[float], step: int) -> float:
    """Return the factor of a step; steps behind the last one have its."""
    return factors[min(step, len(factors) - 1)]


def warmed_up(course: Callable[[int], float], start: int, length: int, step: int) -> float:
    """Return a late group's factor: the schedule's own, times a rise from 1 / ``length`` over ``length`` steps."""
    return course(step) * min(1.0, (step - start + 1) / max(length, 1))


def join_schedule(schedule: LRScheduler, groups: Sequence[dict[str, Any]], start: int, length: int) -> None:
    """Give parameter groups that have just been added to the optimiser their place in its schedule.

    Args:
        schedule: From :func:`make_schedule`.
        groups: The new groups, with their highest rate as ``lr``; they are behind all others in the optimiser.
        start: Step at which they begin.
        length: Steps of their own warm-up; at its end they are where the schedule has taken all others.
    """
    for group in groups:
        group["initial_lr"] = group["lr"]
        if isinstance(schedule, LambdaLR):
            course = partial(warmed_up, schedule.lr_lambdas[0], start, length)
            schedule.lr_lambdas.append(course)
            schedule.base_lrs.append(group["lr"])
            group["lr"] *= course(schedule.last_epoch)
            schedule._last_lr.append(group["lr"])
        else:
            first = schedule.optimizer.param_groups[0]
            reduced = first["lr"] / first["initial_lr"] if first["initial_lr"] else 1.0
            group |= {"lr": group["lr"] * reduced / max(length, 1), "warmed": 1, "warmup": length}


def raise_warming_groups(optimizer: Any) -> None:
    """Go one step on in the warm-up of groups whose schedule only knows reductions (plateau).

    The rate goes from k / length to (k + 1) / length of its height by a factor, so a reduction on the way stays.
    """
    for group in optimizer.param_groups:
        done = group.get("warmed", 0)
        if done and done < group["warmup"]:
            group["lr"] *= (done + 1) / done
            group["warmed"] = done + 1
