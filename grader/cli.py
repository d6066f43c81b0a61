"""Commands, exit codes, and the one error boundary."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import __version__, assignment, i18n
from .ahead import LABEL
from .i18n import _
from .model import Gradebook, Misuse, Result, Trouble
from .report import CLASS_FORMATS, FORMATS, prepare, render
from .text import one_line

if TYPE_CHECKING:
    from .warm import Warm

PASSED, FAILED, MISUSE, UNGRADED, INTERRUPTED = 0, 1, 2, 3, 130
EXIT = {"passed": PASSED, "failed": FAILED, "ungraded": UNGRADED}


def run(arguments: Sequence[str], warm: Warm | None = None) -> int:
    """Run a command line; its exit code. The one place where errors become words and numbers."""
    try:
        code: int | None = main.main(list(arguments), prog_name="grader", standalone_mode=False, obj=warm)
        return code or PASSED
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return MISUSE
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "grader"
        return _say(f"{error.format_message()} (see `{command} --help`)", MISUSE)
    except Misuse as error:
        return _say(str(error), MISUSE)
    except Trouble as error:
        return _say(error.message + (f" {error.hint}" if error.hint else ""), UNGRADED)
    except (KeyboardInterrupt, click.Abort) as error:
        said = str(error.__cause__ or error)  # click makes its own of an interrupt
        return _say(said or _("interrupted; nothing is left behind"), INTERRUPTED)
    except Exception:  # a bug of ours never looks like a check that failed
        import traceback

        traceback.print_exc()
        return _say("this is a bug of the grader, and says nothing about any submission", UNGRADED)
    finally:
        if warm:
            with contextlib.suppress(KeyboardInterrupt):  # all is said, and nothing is left
                warm.close()


def _say(text: str, code: int) -> int:
    for line in text.splitlines():
        print(f"grader: {one_line(line, 1000)}", file=sys.stderr)
    return code


def _warn(text: str) -> None:
    _say(text, UNGRADED)


# --- reports ----------------------------------------------------------------------------------------


class Report(click.ParamType[tuple[str, Path | None]]):
    """FORMAT[=PATH]: where to write it is known to work before anything starts."""

    name = "format[=path]"

    def __init__(self, formats: Sequence[str] = FORMATS) -> None:
        self._formats = formats

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Path | None]:
        form, equals, path = value.partition("=")
        if form not in self._formats:
            self.fail(f"unknown format {form!r}; one of {', '.join(self._formats)}", param, ctx)
        if form == "moodle" and not Path(path).is_file():
            self.fail("moodle=PATH needs the worksheet downloaded from Moodle, to fill it in", param, ctx)
        if not equals:
            return form, None
        if not path:
            self.fail(f"{form}= needs a path", param, ctx)
        out = ctx.params.get("folder")  # a class run makes it, and asks of it that it can be written
        if out and not out.exists() and Path(path).parent.absolute() == out.absolute():
            return form, Path(path)
        try:
            _try_to_write(Path(path))
        except OSError as error:
            self.fail(f"cannot write the report {path}: {error.strerror}", param, ctx)
        return form, Path(path)


def _distinct(_ctx: Any, _param: Any, reports: Any) -> Any:
    paths = [path.absolute() for _form, path in reports if path]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise click.UsageError(f"two reports cannot be written to {twice}")
    return reports


def _try_to_write(path: Path) -> None:
    """Raise OSError where `path` cannot be written; leave nothing there that was not."""
    new = not path.exists()
    with path.open("a", encoding="utf-8"):
        pass
    if new:
        path.unlink()


def _write(reports: Sequence[tuple[str, Path | None]], results: Sequence[Result]) -> None:
    for form, path in reports or [("console", None)]:
        try:
            if path:
                path.write_text(render(form, results, to_file=True), "utf-8")
            else:
                _print(render(form, results))
            _summarise(form, results)
        except OSError as error:  # a full disk costs the report, not the grade
            _say(f"cannot write the {form} report: {error}", MISUSE)


def _summarise(form: str, results: Sequence[Result]) -> None:
    """In a job of GitHub's, the annotations come with a step summary."""
    if form == "github" and (summary := os.environ.get("GITHUB_STEP_SUMMARY")):
        from .report.github import append_summary

        try:
            append_summary(results, Path(summary))
        except OSError as error:
            _say(f"cannot write the step summary: {error}", MISUSE)


def _print(text: str) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(text.removesuffix("\n"), flush=True)
    except BrokenPipeError:  # nobody reads on: that changes no verdict
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


# --- commands ---------------------------------------------------------------------------------------

_assignment = click.option(
    "--assignment", "assignment_file", type=click.Path(path_type=Path), default=assignment.DEFAULT,
    metavar="FILE", help="What is asked (default: TP 1, which ships with the grader).",
)  # fmt: skip


def _language() -> str:
    """What the environment asks for: the first of LC_ALL, LC_MESSAGES and LANG that is set."""
    asked = next((v for k in ("LC_ALL", "LC_MESSAGES", "LANG") if (v := os.environ.get(k))), "en")
    return asked[:2] if asked[:2] in i18n.LANGUAGES else "en"


_lang = click.option(
    "--lang", type=click.Choice(i18n.LANGUAGES), default=_language, help="Language of messages."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="grader")
def main() -> None:
    """Grade labs whose answer is a container image."""


@main.command()
@click.argument("target")
@_assignment
@click.option("--report", "reports", type=Report(), multiple=True, callback=_distinct, metavar="FORMAT[=PATH]",
              help=f"One of {', '.join(FORMATS)}; repeatable.")  # fmt: skip
@click.option(
    "--local", is_flag=True, help="Grade the local engine's image of that name, whatever its registry has."
)
@click.option(
    "--credentials", is_flag=True, help="Use your own `docker login` to pull an image that is not public."
)
@click.option(
    "--build-arg", "build_args", multiple=True, metavar="NAME=VALUE", help="As in docker build; repeatable."
)
@_lang
@click.option("--timeout", type=click.FloatRange(min=1), metavar="S", help="Seconds for everything.")
@click.option("--runtime", metavar="NAME", help="The engine's runtime to use, such as runsc.")
@click.option("--keep", is_flag=True, help="Leave the container on the engine, to look at it.")
@click.pass_obj
def check(warm: Warm | None, target: str, assignment_file: Path, reports: Any, local: bool, credentials: bool,
          build_args: tuple[str, ...], lang: str, timeout: float | None, runtime: str | None,
          keep: bool) -> int:  # fmt: skip
    """Grade TARGET: a directory with a Dockerfile, or an image.

    An image named with its registry (ghcr.io/USER/NAME:TAG) is looked up there, anything else in the local engine.
    """
    from . import orphans
    from .options import Options
    from .session import graded, look
    from .submission import new_session, submission_of
    from .warm import Warm

    i18n.use(lang)
    submission, session = submission_of(target), new_session()
    options = Options(local, credentials, keep, _pairs(build_args), lang, runtime)
    if credentials and not local and submission.kind == "image":
        _say_where_no_login_is([target])
    looked = look(submission, options)  # the engine does, while the assignment is read
    asked = assignment.load(assignment_file)
    own = warm or Warm()
    try:
        with orphans.known(session, _warn) as left, contextlib.ExitStack() as stack:
            with _live() as told:
                meanwhile = _meanwhile(reports, told)
                its = graded(submission, asked, options, own, meanwhile, timeout, session, left, looked)
                result = stack.enter_context(its)
            _write(reports, [result])  # while it is cleaned up
        orphans.sweep()
    finally:
        if own is not warm:
            own.close()
    if keep:
        _say(
            _(
                "Kept on the engine: `docker ps -a --filter label={label}={session}` shows it,"
                " `{python} -m grader.sweep {session}` removes it."
            ).format(label=LABEL, session=session, python=sys.executable),
            PASSED,
        )
    if reports and all(path for _form, path in reports):
        click.echo(f"{submission.id}: {result.verdict}", err=True)
    return EXIT[result.verdict]


def _say_where_no_login_is(targets: Sequence[str]) -> None:
    """For --credentials, which changes nothing there: another user's login, as under sudo, is not found."""
    from .case import stored_login
    from .reference import Reference

    for host in sorted({ref.host for ref in map(Reference.parse, filter(None, targets)) if ref.registry}):
        if not stored_login(host):
            _warn(_("No login for {host} is stored for this user: docker login {host}").format(host=host))


def _pairs(arguments: Sequence[str]) -> dict[str, str]:
    for argument in arguments:
        if "=" not in argument:
            raise Misuse(_("--build-arg {argument}: not NAME=VALUE").format(argument=argument))
    return dict(a.partition("=")[::2] for a in arguments)


def _meanwhile(
    reports: Sequence[tuple[str, Path | None]], told: Callable[[str], None]
) -> Callable[[str], None]:
    """`told`, and at its first word get the reports ready: from there on the engine is waited for."""
    first = iter([True])

    def hear(text: str) -> None:
        told(text)
        if next(first, False):
            for form, _path in reports or [("console", None)]:
                prepare(form)

    return hear


def _live() -> Any:
    """A line on standard error that says what is being done, on a terminal."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return contextlib.nullcontext(lambda _text: None)
    from .report.live import live

    return live()


# --- a class ----------------------------------------------------------------------------------------

_class_reports = click.option(
    "--report", "reports", type=Report(CLASS_FORMATS), multiple=True, callback=_distinct, metavar="FORMAT[=PATH]",
    help=f"One of {', '.join(CLASS_FORMATS)}; repeatable. moodle=PATH fills in a worksheet from Moodle.",
)  # fmt: skip


class Bytes(click.ParamType[int]):
    """`20 GB`."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        try:
            return assignment.size_in_bytes(value)
        except ValueError:
            self.fail(f"{value!r} is not a size such as 20 GB", param, ctx)


@main.command()
@click.argument("roster_file", metavar="ROSTER", type=click.Path(path_type=Path))
@click.option("--out", "folder", required=True, metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
              is_eager=True,  # known when --report is looked at
              help="Where the journal, the gradebook, the report and the feedback go.")  # fmt: skip
@_assignment
@click.option("--jobs", type=click.IntRange(1, 64), default=lambda: 2 * (os.cpu_count() or 2), metavar="N",
              help="How many to grade at once (default: two for each processor).")  # fmt: skip
@click.option("--disk", type=Bytes(), default="10 GB", metavar="SIZE", help="What pulled images may take.")
@click.option("--dask", metavar="ADDRESS", help="Grade on the workers of this Dask scheduler.")
@click.option("--retry-errors", is_flag=True, help="Grade the ungraded only.")
@click.option(
    "--regrade", is_flag=True, help="Grade all again; no grade is replaced before you have seen it."
)
@click.option("--yes", is_flag=True, help="With --regrade: replace the grades that change.")
@_class_reports
@click.option(
    "--credentials", is_flag=True, help="Use your own `docker login` for images that are not public."
)
@_lang
@click.option("--timeout", type=click.FloatRange(min=1), metavar="S", help="Seconds for each submission.")
@click.option("--runtime", metavar="NAME", help="The engine's runtime to use, such as runsc.")
def batch(roster_file: Path, folder: Path, assignment_file: Path, jobs: int, disk: int, dask: str | None,
          retry_errors: bool, regrade: bool, yes: bool, reports: Any, credentials: bool, lang: str,
          timeout: float | None, runtime: str | None) -> int:  # fmt: skip
    """Grade the class listed in ROSTER, a CSV file, into DIR. Given again, it goes on where it stopped."""
    from . import roster
    from .batch import Mode
    from .course import Plan, graded
    from .options import Options
    from .report import moodle
    from .report.course import Terminal, summary

    if yes and not regrade:
        raise click.UsageError("--yes goes with --regrade")
    if regrade and retry_errors:
        raise click.UsageError("--regrade grades all, --retry-errors the ungraded only: choose one")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a job that is cancelled tells what is done
    i18n.use(lang)
    asked = assignment.load(assignment_file)
    listed = roster.load(roster_file, asked)
    for form, path in reports:
        if form == "moodle":
            moodle.check(_worksheet(path), listed.columns, listed.students)
    mode: Mode = "regrade" if regrade else "retry-errors" if retry_errors else "resume"
    options = Options(credentials=credentials, lang=lang, runtime=runtime)
    if credentials:
        _say_where_no_login_is([student.target for student in listed.students])
    plan = Plan(jobs, disk, mode, options, timeout, dask)
    with Terminal(yes) as terminal:
        try:
            with graded(folder, listed, asked, plan, terminal) as ended:
                _write_class(reports, ended.book)
                _print("\n".join(summary(ended, folder)))
                return UNGRADED if ended.blank or ended.untold else PASSED
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(str(error) or terminal.interrupted()) from None


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@_class_reports
@_lang
def report(folder: Path, reports: Any, lang: str) -> int:
    """Write the reports of a class that `grader batch` graded into DIR, from its journal, running nothing.

    Without --report: all that stands in DIR is made again.
    """
    from contextlib import closing

    from . import folder as outputs
    from .store import Journal

    i18n.use(lang)
    with closing(Journal(folder)) as journal:
        book = outputs.book_of(journal)
        if not reports:
            outputs.write(folder, book)
        _write_class(reports, book)
    return PASSED


def _worksheet(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Misuse(f"cannot read the Moodle worksheet {path}: {error.strerror}") from None


def _write_class(reports: Sequence[tuple[str, Path | None]], book: Gradebook) -> None:
    from .folder import aside
    from .report import moodle, render_class

    for form, path in reports:
        if form == "moodle" and path:
            filled, notes = moodle.fill(_worksheet(path), book)
            aside(path, filled)
            for note in notes:
                _say(note, PASSED)
        elif path:
            aside(path, [render_class(form, book)])
        else:
            _print(render_class(form, book))
        _summarise(form, book.results)


# --- the catalogue, and this machine ----------------------------------------------------------------


@main.command()
@_assignment
@_lang
def checks(assignment_file: Path, lang: str) -> int:
    """List the checks: id, level, points, title."""
    from .catalogue import titles

    i18n.use(lang)
    asked = assignment.load(assignment_file)
    for check_, title in zip(asked.checks, titles(asked).values(), strict=True):
        _print(f"{check_.id:<20} {check_.level:<9} {check_.points or '':>4}  {one_line(title)}")
    known = assignment.catalogue()
    for id_ in sorted(known.keys() - {c.id for c in asked.checks}):
        _print(f"{id_:<20} {'not asked':<9} {'':>4}  {known[id_].partition(chr(10))[0]}")
    return PASSED


@main.command()
@click.argument("check_id", metavar="ID")
@_assignment
@_lang
def explain(check_id: str, assignment_file: Path, lang: str) -> int:
    """Why a check matters, an example, and how to mend it."""
    from .catalogue import page, titles

    i18n.use(lang)
    asked = assignment.load(assignment_file)
    found = asked.check(check_id)
    known = {**assignment.catalogue(), **(assignment.catalogue(asked.extra) if asked.extra else {})}
    if not found and check_id not in known:
        ids = dict.fromkeys([*(c.id for c in asked.checks), *known])
        raise Misuse(_("unknown check {id!r}; one of {ids}").format(id=check_id, ids=", ".join(ids)))
    found = found or assignment.Check(check_id, "advice")
    text = page(found, lang) or known.get(check_id) or titles(asked)[check_id]
    worth = _("{points:g} point(s)").format(points=found.points)
    _print(f"{check_id} ({found.level}, {worth})\n\n{text}")
    return PASSED


@main.command()
@_lang
def doctor(lang: str) -> int:
    """What works here, and what to do about what does not."""
    from .doctor import diagnose

    i18n.use(lang)
    works = True
    for finding in diagnose():
        works &= finding.works or finding.optional
        mark = "ok  " if finding.works else "note" if finding.optional else "FAIL"
        _print(f"{mark}  {finding.what}" + (f"\n      → {finding.mend}" if finding.mend else ""))
    return PASSED if works else UNGRADED
