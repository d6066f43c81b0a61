"""What the image is made of: seen in its configuration, history and layers, without running it."""

from __future__ import annotations

import pytest

from grader import diagnose
from grader.assignment import Assignment, Check
from grader.case import Case
from grader.i18n import _
from grader.image import Facts, copies_code, installs_dependencies
from grader.model import Fault
from grader.plugin import Seen, require
from grader.text import one_line

ESTIMATE = 0.03  # the most that a local image's estimated size is off


def test_build(case: Case, seen: Seen) -> None:
    """The Dockerfile builds."""
    if not case.is_directory:
        pytest.skip(_("There is nothing to build: an image was given."))
    seen(_("Built {image}.").format(image=case.built().id[:19]))


def test_platform(case: Case, seen: Seen) -> None:
    """The image is made for the platform it will run on."""
    seen(_("Made for {platform}.").format(platform=case.platform().platform))


def test_size(case: Case, check: Check, seen: Seen) -> None:
    """The image is small enough."""
    limit, basis = check.options["limit"], check.options.get("basis", "compressed")
    facts = case.size()
    try:
        case.local()  # the unpacked size is the engine's to tell
        if basis == "unpacked":
            case.unpacked()
    except Fault:
        if basis == "unpacked":
            raise
    size = case.sizes()
    value = (size.compressed if basis == "compressed" else size.unpacked) or 0
    heaviest = diagnose.heaviest(facts.steps, compressed=basis == "compressed")
    layers = "\n".join(f"{diagnose.megabytes(n):>9}  {one_line(text, 60) or '?'}" for n, text in heaviest)
    told = _("{compressed} compressed, {how}; {unpacked} unpacked; must be under {limit} {basis}.").format(
        compressed=diagnose.megabytes(size.compressed or 0),
        how=_("as a registry stores it")
        if case.is_remote
        else _("by an estimate of what a registry would store"),
        unpacked=diagnose.megabytes(size.unpacked) if size.unpacked is not None else "?",
        limit=diagnose.megabytes(limit),
        basis=_("compressed") if basis == "compressed" else _("unpacked"),
    )
    if basis == "compressed" and not case.is_remote and abs(value - limit) < ESTIMATE * limit:
        told += "\n" + _(
            "That is too close to be sure of: the registry's own count may fall on the other side."
        )
    seen(
        told + "\n" + _("The heaviest layers:") + "\n" + layers,
        compressed=size.compressed,
        unpacked=size.unpacked,
        limit=limit,
        basis=basis,
        heaviest=[{"bytes": n, "instruction": text[:200]} for n, text in heaviest],
    )
    require(value < limit, seen.message, diagnose.how_to_shrink(facts))


def test_exposed_port(image: Facts, assignment: Assignment, seen: Seen) -> None:
    """EXPOSE names the application's port."""
    wanted, ports = f"{assignment.port}/tcp", image.exposed_ports
    listed = ", ".join(map(one_line, ports)) or _("nothing")
    seen(_("It exposes {ports}.").format(ports=listed), ports=ports)
    require(
        wanted in ports,
        _("It exposes {ports}, not {wanted}.").format(ports=listed, wanted=wanted),
        _("Add EXPOSE {port}: it tells people and tools where the application listens.").format(
            port=assignment.port
        ),
    )


def test_layer_order(image: Facts, seen: Seen) -> None:
    """Dependencies are installed before the code is copied, so that the build cache serves."""
    steps = image.own_steps
    install = next((n for n, step in enumerate(steps) if installs_dependencies(step)), None)
    if install is None:
        seen(_("No layer installs dependencies after the code."))
        return
    before = [step for step in steps[:install] if copies_code(step, steps[install])]
    require(
        not before,
        _("{copy} comes before {install}: each change of the code installs all dependencies again.").format(
            copy=diagnose.quoted(before[0].instruction, 60) if before else "",
            install=diagnose.quoted(steps[install].instruction, 60),
        ),
        _("COPY requirements.txt alone, RUN pip install -r requirements.txt, and only then COPY the code."),
    )
    seen(_("Dependencies are installed first."))


def test_pip_cache(case: Case, seen: Seen) -> None:
    """pip left no cache in the image."""
    running = case.app()
    environment = running.facts.environment
    user = str(running.facts.config.get("User") or "").partition(":")[0]
    homes = [environment.get("HOME", "/root"), "/root", *([f"/home/{user}"] if user else [])]
    places = [f"{home.rstrip('/')}/.cache/pip" for home in dict.fromkeys(homes)]
    places[:0] = [environment[k] for k in ("PIP_CACHE_DIR",) if environment.get(k)]
    for place in places:
        size = running.app.size_of(place)
        require(
            not size,
            _("pip's cache lies in the image: {size} in {place}.").format(
                size=diagnose.megabytes(size), place=one_line(place, 80)
            ),
            _("RUN pip install --no-cache-dir -r requirements.txt"),
            bytes=size,
        )
    made = diagnose.leaves_cache("\n".join(step.instruction for step in running.facts.own_steps), environment)
    removed = made and next((s for s in running.facts.steps if removes_cache(s.instruction)), None)
    require(
        not removed,
        _("pip's cache was removed in a later layer than it was made in: it is still stored and pulled."),
        _("RUN pip install --no-cache-dir -r requirements.txt"),
    )
    seen(_("There is no pip cache."))


def removes_cache(instruction: str) -> bool:
    """Whether a RUN step removes pip's cache without having made it."""
    return "pip install" not in instruction and (
        "pip cache purge" in instruction or ("rm -r" in instruction and ".cache" in instruction)
    )
