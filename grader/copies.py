"""What submissions of a class share beyond the base image and the starter: a fact for the instructor. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from .model import Layer, Shared

# The tar archive of nothing: what a step leaves that changed no file (docker's and BuildKit's).
EMPTY = frozenset(
    [
        "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        "sha256:84ff92691f909a05b224e1c56abb4864f01b4f8e3c854e4bb4c7baf1d3f6d652",
    ]
)
COMMON = 0.5  # a layer that more than this part of the class has was handed out, or comes with the base
CLASS = 6  # images from which on that can be told


def shared(
    images: Iterable[tuple[str, str | None, tuple[Layer, ...]]], starter: frozenset[str] = frozenset()
) -> tuple[Shared, ...]:
    """Groups of submissions, the largest share first. `images`: (submission, digest, layers); `starter`: diff IDs.

    A submission is told of once with each set of others: with all the layers that exactly these have in common.
    """
    owners: dict[str, list[str]] = defaultdict(list)
    owned: dict[str, list[str]] = defaultdict(list)
    sizes: dict[str, int] = {}
    digests: dict[str, list[str]] = defaultdict(list)
    count = 0
    for submission, digest, layers in images:
        count += bool(layers)
        if digest:
            digests[digest].append(submission)
        for layer in {layer.diff_id: layer for layer in layers}.values():
            if not layer.base and layer.diff_id not in EMPTY | starter:
                owners[layer.diff_id].append(submission)
                owned[submission].append(layer.diff_id)
                sizes[layer.diff_id] = layer.size.compressed or layer.size.unpacked or 0
    common = count * COMMON if count >= CLASS else count
    found = [
        Shared(tuple(who), tuple(owned[who[0]]), sum(sizes[d] for d in owned[who[0]]), digest)
        for digest, who in digests.items()
        if len(who) > 1
    ]
    told = {group.submissions for group in found}
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for diff_id, who in owners.items():
        if 1 < len(who) <= common:
            groups[tuple(who)].append(diff_id)
    found += [
        Shared(who, tuple(layers), sum(sizes[d] for d in layers))
        for who, layers in groups.items()
        if who not in told
    ]
    return tuple(sorted(found, key=lambda each: (each.digest is None, -each.size, each.submissions)))
