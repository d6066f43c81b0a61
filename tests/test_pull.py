"""Whose fault it is that an image cannot be pulled, by the engine's own words."""

from __future__ import annotations

import pytest

from grader.engine import _BAD


@pytest.mark.parametrize(
    ("said", "the_images"),
    [
        ("json: cannot unmarshal number into Go struct field Image.history of type []image.History", True),
        ("layers from manifest don't match image configuration", True),
        ("max depth exceeded", True),
        (
            "failed to register layer: Error processing tar file(exit status 1): archive/tar: invalid tar header",
            True,
        ),
        ("failed to register layer: Error processing tar file(exit status 1): unexpected EOF", True),
        # containerd's
        ('wrong diff id calculated on extraction "sha256:00"', True),
        ("number of layers and diffIDs don't match: 1 != 2", True),
        (
            'failed to extract layer (application/vnd.oci.image.layer.v1.tar+gzip sha256:00) to overlayfs as "extract-1'
            ' sha256:00": mount callback failed on /var/lib/docker/containerd-mount1: unexpected EOF',
            True,
        ),
        # Podman's
        ('writing blob: layer 0 (blob "sha256:00"/""/"") does not match config\'s DiffID "sha256:11"', True),
        (
            "failed to extract layer sha256:00: mount callback failed on /x: write /x/y: no space left on device",
            False,
        ),
        ("failed to copy: httpReadSeeker: failed open: unexpected EOF", False),
        ("failed to register layer: Error processing tar file(signal: killed): unexpected EOF", False),
        ("failed to register layer: open /lower: too many open files", False),
        (
            "failed to register layer: Error processing tar file(exit status 1): no space left on device",
            False,
        ),
        ("error parsing HTTP 502 response body: json: cannot unmarshal string", False),
        ("error parsing HTTP 502 response body: invalid character '<' looking for beginning of value", False),
        ("filesystem layer verification failed for digest sha256:00", False),
    ],
)
def test_only_what_an_images_content_does_is_its_fault(said: str, the_images: bool) -> None:
    assert bool(_BAD.search(said)) is the_images
