"""The image is where everybody can fetch it."""

from __future__ import annotations

import pytest

from grader.assignment import Check
from grader.case import Case
from grader.i18n import _
from grader.plugin import Seen, require


def test_published(case: Case, seen: Seen) -> None:
    """The image can be fetched by anybody, without logging in."""
    if not case.is_remote:
        case.reference() if not case.is_directory else None
        pytest.skip(_("A directory or a local image is not on a registry."))
    image = case.published()
    seen(_("Public: {reference} is {digest}.").format(reference=image.reference, digest=image.digest))


def test_latest_tag(case: Case, check: Check, seen: Seen) -> None:
    """`latest` is the same image as the version tag."""
    if not case.is_remote:
        pytest.skip(_("A directory or a local image has no tags to compare."))
    image, tag = case.remote(), check.options.get("tag", "latest")
    latest = image.reference.with_tag(tag)
    hint = _("docker tag {version} {latest} && docker push {latest}").format(
        version=image.reference, latest=latest
    )
    digest = case.digest(tag)
    require(digest, _("There is no tag {tag}.").format(tag=tag), hint)
    require(
        digest == image.digest,
        _("{tag} is another image: {digest}, not {wanted}.").format(
            tag=tag, digest=digest, wanted=image.digest
        ),
        hint,
    )
    seen(_("{tag} is the same image.").format(tag=tag), digest=digest)
