"""What the running container does, seen from outside."""

from __future__ import annotations

import signal

import pytest

from grader import diagnose
from grader.assignment import Assignment, Route
from grader.i18n import _
from grader.plugin import Seen, require
from grader.running import Running


def test_starts(app: Running, seen: Seen) -> None:
    """The container starts and stays up."""
    app.alive()
    if app.answered:
        seen(
            _("Up, and answering {seconds:.1f} s after its start.").format(seconds=app.answered - app.started)
        )
    else:
        seen(_("Up."))


def test_route(app: Running, route: Route, seen: Seen) -> None:
    """A route answers what is asked of it."""
    answer = app.ask(route)
    seen(
        _("{route} answers {status}: {body}").format(
            route=route, status=answer.status, body=diagnose.quoted(answer.text, 80)
        ),
        status=answer.status,
        body=answer.text[:2000],
    )


@pytest.mark.waits  # a run of the health check may have left something running
def test_non_root(app: Running, seen: Seen) -> None:
    """No process runs as root."""
    app.alive()
    processes, roots = app.processes()
    user = str(app.facts.config.get("User") or "")
    require(
        not roots,
        _("Running as root: {processes}.").format(
            processes=", ".join(diagnose.quoted(p.command, 60) for p in roots[:3])
        ),
        diagnose.how_to_leave_root(user, app.facts.own_steps),
        user=user,
        processes=[p.command for p in roots],
    )
    uids = sorted(frozenset[int]().union(*(p.uids for p in processes)))
    seen(
        _("{count} process(es), none as root (uid {uids}).").format(
            count=len(processes), uids=", ".join(map(str, uids))
        ),
        uids=uids,
    )


def test_no_debugger(app: Running, assignment: Assignment, seen: Seen) -> None:
    """Werkzeug's debugger, which runs any code sent to it, cannot be reached."""
    app.alive()
    if app.answered is None:
        pytest.skip(_("The application does not answer at all."))
    script = Route(path="/?__debugger__=yes&cmd=resource&f=debugger.js")
    answer = app.ask_once(script)
    require(
        not (answer and answer.status == 200 and "javascript" in answer.headers.get("content-type", "")),
        _("Werkzeug's interactive debugger answers on port {port}: it runs any code sent to it.").format(
            port=assignment.port
        ),
        _("Leave out debug=True, --debug and FLASK_DEBUG=1 in the image: {how}.").format(
            how=diagnose.how_to_listen(app.facts.command, assignment.port)
        ),
    )
    seen(_("No debugger answers on {path}.").format(path="/"))


@pytest.mark.last
def test_graceful_stop(app: Running, assignment: Assignment, seen: Seen) -> None:
    """The container ends by itself soon after `docker stop`."""
    name, seconds = app.stop_signal(), assignment.timeouts.stop
    hint = _(
        "PID 1 gets no default action for signals. One of these is enough: signal.signal(signal.SIGTERM,"
        " lambda *_: sys.exit(0)) in app.py, STOPSIGNAL SIGINT in the Dockerfile, or gunicorn as the server."
        " Write CMD in its exec form."
    )
    number = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", signal.SIGKILL)
    deaf = app.ignores(number) if number != signal.SIGKILL else None
    # A kernel that does not tell where a process waits may be keeping from us that it waits for signals.
    took = None if deaf and deaf.wchan else app.stop(name, min(seconds, 2) if deaf else seconds)
    require(
        took is not None or deaf is None,
        _("{process}, as PID 1, does not handle {signal}: `docker stop` waits 10 s, then kills it.").format(
            process=diagnose.quoted(deaf.command if deaf else "", 60), signal=name
        ),
        hint,
    )
    require(
        took is not None,
        _("Still running {seconds:.0f} s after {signal}.").format(seconds=seconds, signal=name),
        hint,
    )
    seen(_("Ended {seconds:.1f} s after {signal}.").format(seconds=took or 0.0, signal=name))
