"""The image's own HEALTHCHECK, run by the engine itself."""

from __future__ import annotations

import pytest

from grader import diagnose
from grader.i18n import _
from grader.plugin import Seen, require
from grader.running import Running


@pytest.mark.waits
def test_healthcheck(app: Running, seen: Seen) -> None:
    """The HEALTHCHECK makes the engine report `healthy`."""
    probe = app.healthy()
    test = app.facts.health_test or []
    seen(
        _("healthy: {test} succeeded in {seconds:.2f} s.").format(
            test=diagnose.quoted(diagnose.spoken(test), 100), seconds=max(probe.end - probe.start, 0)
        ),
        test=test,
        output=probe.output,
    )


@pytest.mark.freezes
def test_honest_healthcheck(app: Running, seen: Seen) -> None:
    """The health check fails when the application is frozen."""
    app.healthy()
    test = app.facts.health_test or []
    if diagnose.must_ask(app.facts, app.app.port):
        seen(_("It asks the application itself, and cannot succeed without its answer."), test=test)
        return
    if app.answered is None or not app.freeze():
        app.thaw()
        pytest.skip(_("The application could not be frozen."))
    try:
        after = app.probe_when_frozen()
    finally:
        app.thaw()
    require(
        after is None or after.exit_code != 0,
        _(
            "The health check {test} still says healthy while the application is frozen and answers nothing."
        ).format(test=diagnose.quoted(diagnose.spoken(test), 100)),
        _("Let it ask the application: fetch /health, and fail unless the answer is 200."),
        test=test,
    )
    seen(_("With the application frozen, it fails."), test=test)
