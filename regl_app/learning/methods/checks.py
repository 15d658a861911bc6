"""What a method hands back is refused where it is made, by name, if nobody could go on from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from regl_app.core.errors import DivergedError, RunError
from regl_app.core.finite import not_finite
from regl_app.core.types import Tensors
from regl_app.learning.methods.method import Method, detached


def check_finished(found: object, method: Method) -> None:
    """Refuse what ``finish`` of ``method`` returned unless it is two tables of tensors.

    Raises:
        RunError: it is something else; says what.
    """
    if isinstance(found, tuple) and len(found) == 2:
        problem = next(filter(None, map(_no_table, found)), "")
    else:
        problem = f"got {type(found).__name__}"
    if problem:
        raise RunError(
            f"{type(method).__name__}.finish must return two tables of tensors by name, what is "
            f"kept and what is sent: {problem}"
        )


def check_sent(sent: Tensors, bound: Tensors, name: str) -> None:
    """Refuse what method ``name`` sends unless it has the names, shapes and types of ``bound``.

    The server would refuse it, which says less.

    Raises:
        RunError: it differs; says in what.
    """
    if odd := _differing(sent, bound):
        raise RunError(
            f"objective={name!r}: finish must send all that sends (template, unless overridden) "
            f"has, in every round: {odd}"
        )


def check_kept(method: Method, kept: Tensors, own: Tensors, name: str) -> None:
    """Refuse what method ``name`` keeps at a client unless the next round can go on from it.

    Args:
        method: it.
        kept: what it keeps. Infinity is a value like others there, but not in ``own``.
        own: what of the model stays at the client, as the round left it.
        name: what the run calls it.

    Raises:
        DivergedError: a part of ``own`` is not finite.
        RunError: one is missing or has another form, something would not be found again, or a
            tensor holds NaN; says which.
    """
    if missing := sorted(set(own) - set(kept)):
        raise RunError(
            f"objective={name!r}: finish must keep what shared leaves out, as it is sent nowhere "
            f"and would begin untrained in every round: {len(missing)} of {len(own)} tensors are "
            f"not in what it keeps, such as {missing[0]!r} (keep them, or name them in shared)"
        )
    parts = {key: kept[key] for key in own}
    if odd := _differing(parts, own):
        raise RunError(
            f"objective={name!r}: finish must keep what shared leaves out in the form that it has "
            f"in the model: of the model's own {odd}"
        )
    if kept and not method.keeps:
        raise RunError(
            f"objective={name!r}: finish keeps {min(kept)!r}, which no round would find again, as "
            "keeps says that nothing is kept (leave keeps as it is)"
        )
    if (key := not_finite(parts)) is not None:
        raise DivergedError(
            f"objective={name!r}: finish keeps NaN or infinity in {key!r}, a part of the model: it "
            "has diverged (lower train.lr)"
        )
    if (key := _undefined(kept)) is not None:
        raise RunError(
            f"objective={name!r}: finish keeps NaN in {key!r}: must be finite, inf or -inf (a "
            "division by zero, or training has diverged: lower train.lr)"
        )


def checked_names(found: object, names: Collection[str], name: str) -> list[str]:
    """Return which of a model's tensors, by ``names``, method ``name`` shares.

    Raises:
        RunError: ``shared`` returned a name that the model does not have, or no names.
    """
    if isinstance(found, str) or not isinstance(found, Collection):
        raise RunError(
            f"objective={name!r}: shared must return a list of names, got {found!r:.100}"
        )
    if unknown := [each for each in found if each not in names]:
        raise RunError(
            f"objective={name!r}: shared must return some of the names that it is given, got "
            f"{unknown[0]!r}: the model has {', '.join(map(repr, names))}"
        )
    return list(found)


def checked_form(found: object, name: str, function: str) -> Tensors:
    """Return what ``function``, ``template`` or ``sends``, of method ``name`` returned, uncopied.

    Raises:
        RunError: it is no table of tensors.
    """
    if problem := _no_table(found):
        raise RunError(
            f"objective={name!r}: {function} must return a table of tensors by name: {problem}"
        )
    assert isinstance(found, Mapping)
    return found


def checked_state(found: object, form: Tensors, name: str) -> Tensors:
    """Return copies of what method ``name`` aggregated, of the form of ``form``.

    Raises:
        RunError: it has another form, or is not finite, which no client would accept; says which.
    """
    return _checked(found, form, f"objective={name!r}: aggregate", "the tensors that template has")


def checked_report(found: object, form: Tensors, name: str) -> Tensors:
    """Return copies of the model that method ``name`` reports, of the form of ``form``.

    Raises:
        RunError: it has another form, or is not finite; says which.
    """
    return _checked(found, form, f"objective={name!r}: report", "all tensors of average")


def _checked(found: object, form: Tensors, who: str, allowed: str) -> Tensors:
    problem = _no_table(found)
    if not problem:
        assert isinstance(found, Mapping)
        problem = _differing(found, form)
        if not problem and (key := not_finite(found)) is not None:
            problem = f"{key!r} holds NaN or infinity"
        if not problem:
            return detached(found)
    raise RunError(
        f"{who} must return {allowed}, of the same shapes and types and finite: {problem}"
    )


def _no_table(found: object) -> str:
    """Return what is wrong with ``found`` as tensors by name; '' if nothing."""
    if not isinstance(found, Mapping):
        return f"got {type(found).__name__}"
    for key, value in found.items():
        if not isinstance(value, torch.Tensor):
            return f"{key!r} is of type {type(value).__name__}"
    return ""


def _differing(found: Tensors, wanted: Tensors) -> str:
    """Return in what names, shapes and types differ; '' if in nothing."""
    forms = [
        {key: (tuple(value.shape), str(value.dtype)) for key, value in each.items()}
        for each in (found, wanted)
    ]
    odd = sorted({key for key, _ in forms[0].items() ^ forms[1].items()})
    if not odd:
        return ""
    told, right = ({key: form[key] for key in odd[:3] if key in form} for form in forms)
    return f"{len(odd)} tensors differ, such as {told} instead of {right}"


def _undefined(tensors: Tensors) -> str | None:
    return next((key for key, value in tensors.items() if bool(torch.isnan(value).any())), None)
