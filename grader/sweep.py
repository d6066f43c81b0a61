"""Remove what a session left on the engine because it was killed: `python -m grader.sweep SESSION`."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import docker

from .ahead import LABEL, PREFIX
from .container import engine_trouble
from .engine import BRINGS, PULLS, REPOSITORY, Engine, drop_nameless, forget, images_of
from .i18n import _
from .model import Trouble

Whose = Callable[[str], bool]  # whether a session is one of those to be swept


def once(*sessions: str, pulls_over: bool = True, seen: set[str] | None = None) -> int:
    """Remove every container, network and image of these sessions, or of a class run's gradings; how many there were.
    The mark of a pull stays until none can be under way: who has been cut off from it may still get the image. The
    images found are put into `seen`: given again, they are removed by their id where they have lost their names since.
    The engine may be at work on what somebody asked who has died, and then takes the last name alone (see `forget`).

    For what a session could not end itself: a crash, a deadline, Ctrl-C. Raises Trouble."""
    engine, of_a_class = Engine(""), tuple(f"{session}." for session in sessions)
    api, seen = engine.api, set() if seen is None else seen

    def theirs(session: str) -> bool:
        return session in sessions or session.startswith(of_a_class)

    with engine_trouble(_("cleaning up")):
        found = _containers(api, theirs) + _networks(api, theirs)
        found += _images(api, theirs, seen) + _pulls(api, theirs, seen, pulls_over)
        for image in seen if sessions else ():
            with _gone():
                found += drop_nameless(api, image, f"{REPOSITORY}:{sessions[0]}")
    engine.client.close()
    return found


def _containers(api: Any, theirs: Whose) -> int:
    found = 0
    for container in api.containers(all=True, filters={"label": LABEL}):
        if theirs(container["Labels"][LABEL]) and not _labelled_by_its_image(api, container):
            found += 1
            with _gone():
                api.remove_container(container["Id"], force=True, v=True)
    return found


def _networks(api: Any, theirs: Whose) -> int:
    found = 0
    for network in api.networks(filters={"label": LABEL}):
        if theirs(network["Labels"][LABEL]):
            found += 1
            with _gone():
                api.remove_network(network["Id"])
    return found


def _images(api: Any, theirs: Whose, seen: set[str]) -> int:
    found = 0
    for image in images_of(api, reference=f"{REPOSITORY}:*"):
        for tag in image.get("RepoTags") or ():
            if theirs(tag.partition(":")[2]):
                found += 1
                seen.add(image["Id"])
                with _gone():
                    forget(api, tag, image["Id"])
    return found


def _pulls(api: Any, theirs: Whose, seen: set[str], over: bool) -> int:
    """What was being pulled, by its mark; and the mark, where all pulls are `over`. It is known by its name: an engine
    that is killed while it makes one has not written its labels down, and nothing has been pulled then (moby
    volume/service/store.go, create)."""
    found = 0
    for volume in api.volumes(filters={"name": PREFIX})["Volumes"] or ():
        if not theirs(volume["Name"].removeprefix(PREFIX)):
            continue
        told = volume["Labels"] or {}
        seen.update(filter(None, [told.get(BRINGS)]))
        if pulled := told.get(PULLS):
            with _gone():
                seen.add(api.inspect_image(pulled)["Id"])
                api.remove_image(pulled)
                found += 1
        if over:
            found += 1
            with _gone():
                api.remove_volume(volume["Name"])
    return found


def thoroughly(*sessions: str) -> None:
    """Sweep until nothing more turns up: the engine may still be at work on what was asked of it last.

    Raises Trouble.
    """
    quiet, seen = 0, set[str]()
    for _attempt in range(10):
        quiet = 0 if once(*sessions, pulls_over=quiet == 2, seen=seen) else quiet + 1
        if quiet == 3:
            return
        time.sleep(0.3)
    raise Trouble(_("Something could not be removed from the container engine."))


@contextlib.contextmanager
def _gone() -> Iterator[None]:
    """Be content where somebody else has removed it, is about to, or still uses it: two may be sweeping at once."""
    try:
        yield
    except docker.errors.NotFound:
        pass
    except docker.errors.APIError as error:
        of_another = "already in progress|has active endpoints|is using its referenced image|is being used by"
        if not re.search(of_another, str(error.explanation)):
            raise


def _labelled_by_its_image(api: Any, container: Mapping[str, Any]) -> bool:
    """Whether somebody else's container has our label from an image that pretends to be ours: what we start has
    another one, whatever the image says."""
    with contextlib.suppress(docker.errors.NotFound):
        labels = api.inspect_image(container["ImageID"])["Config"].get("Labels") or {}
        return bool(labels.get(LABEL) == container["Labels"][LABEL])
    return False


if __name__ == "__main__":
    thoroughly(sys.argv[1])
