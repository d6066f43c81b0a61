"""Why a build failed, and how to mend it. The outputs are those of the programs named, shortened."""

from __future__ import annotations

import pytest

from grader import build as builds
from grader import diagnose, transcript
from grader.text import visible

from .support.builders import BUILDERS, DENIED, NO_VERSION, PIP, V0, buildkit, from_classic, refused

CONFLICT = (
    "ERROR: Cannot install -r r.txt (line 1) and Werkzeug==2.0.0 because these package versions have conflicting"
    " dependencies.\n\nThe conflict is caused by:\n    The user requested Werkzeug==2.0.0"
)
NO_SUCH_FILE = (
    "ERROR: Could not install packages due to an OSError: [Errno 2] No such file or directory: '{}'"
)


@BUILDERS
@pytest.mark.parametrize(
    ("command", "printed", "hint"),
    [
        (PIP, NO_VERSION, "does not exist"),
        (PIP, "ERROR: Invalid requirement: 'Flask = 2.3' (from line 1 of requirements.txt)", "NAME==VERSION"),
        (
            PIP,
            "ERROR: Could not open requirements file: [Errno 2] No such file or directory: 'r.txt'",
            "COPY",
        ),
        (
            PIP,
            "ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/x'",
            "docker build .",  # no USER in sight
        ),
        (PIP, CONFLICT, "exclude each other"),
        (PIP, f"Processing /croot/click/work\n{NO_SUCH_FILE.format('/croot/click/work')}", "NAME @ file:"),
        (PIP, f"{NO_SUCH_FILE.format('/croot/click/work')}\nProcessing /croot/click/work", "NAME @ file:"),
        (
            "pip install /x.whl",
            "WARNING: Requirement '/x.whl' looks like a filename, but the file does not exist\nProcessing /x.whl\n"
            + NO_SUCH_FILE.format("/x.whl"),
            "docker build .",
        ),
        (PIP, "error: command 'gcc' failed: No such file or directory", "no C compiler"),
        (
            PIP,
            "error: command '/usr/bin/x86_64-linux-gnu-gcc' failed with exit code 1",
            "docker build .",
        ),
        ("apt install x", "Do you want to continue? [Y/n] Abort.", "install -y"),
        ("apt-get install -y curl", "E: Unable to locate package curl", "no lists of packages"),
        (
            "apt-get update && apt-get install -y curll",
            "E: Unable to locate package curll",
            "no package of that name",
        ),
        ("./setup.sh", "E: Unable to locate package x", "docker build ."),
        (
            "adduser -D x",
            "Option d is ambiguous (debug, disabled-login)\nadduser [--uid id]",
            "Debian's adduser",
        ),
        ("adduser -x x", "adduser [--uid id]\nUnknown option: x", "Debian's adduser"),
        ("adduser --ingroup a x", "adduser: unrecognized option: ingroup", "Debian's adduser"),
        ("./tool -x", "Unknown option: x", "That command has no such option"),
        (". x && source .venv/bin/activate", "/bin/sh: 1: source: not found", "`. .venv/bin/activate`"),
        ("./x.sh", "/bin/sh: 1: ./x.sh: not found", "not in the image, or its first line"),
        ("./x.sh", "/usr/bin/env: ‘bash\\r’: No such file or directory", "with LF"),
        (
            "./x.sh",
            "/bin/bash: line 1: ./x.sh: /bin/sh^M: bad interpreter: No such file or directory",
            "with LF",
        ),
        ("sh x.sh", "x.sh: 1: true\r: not found", "with LF"),
        ("bash x.sh", "x.sh: line 1: $'true\\r': command not found", "with LF"),
        ("adduser x", "/bin/sh: adduser: not found", "useradd"),
        (
            "poetry install",
            "404 Client Error: Not Found for url: https://pypi.org/pypi/x/json",
            "docker build .",
        ),
        (
            "mkdir /data",
            "mkdir: cannot create directory ‘/data’: Permission denied",
            "The base image's own user",
        ),
        ("groupad x", "/bin/sh: 1: groupad: not found", "install it, or do without"),
        (PIP, "Usage:\n  pip install [options]\n\nno such option: --no-ccahe-dir", "check its spelling"),
        ("useradd --create-HOME x", "useradd: unrecognized option '--create-HOME'", "check its spelling"),
        ("set -o pipefail", "/bin/sh: 1: set: Illegal option -o pipefail", "SHELL ["),
        ("bash -c x", "/bin/sh: 1: bash: not found", "install it, or do without"),
        ("ls /nope", "ls: cannot access '/nope': No such file or directory", "docker build ."),
    ],
)
def test_a_step_that_fails_is_explained(builder, command: str, printed: str, hint: str) -> None:  # type: ignore[no-untyped-def]
    message, said = diagnose.why_build_failed(builder(printed, command))
    assert hint in (said or "")
    assert visible(printed.rsplit("\n", 1)[-1]) in message


NOT_EXECUTABLE = "/bin/sh: 1: ./x.sh: Permission denied"


@BUILDERS
@pytest.mark.parametrize(
    ("command", "printed", "code", "dockerfile", "hint"),
    [
        ("./x.sh", NOT_EXECUTABLE, 126, "FROM x\nRUN ./x.sh", "chmod 755"),
        ("./x.sh", NOT_EXECUTABLE, 126, "FROM x\nUSER a\nRUN ./x.sh", "chmod 755"),
        (
            "/root/x",
            "/bin/sh: 1: /root/x: Permission denied",
            126,
            "FROM x\nUSER a\nRUN /root/x",
            "after USER",
        ),
        ("cat x", "cat: ./x: Permission denied", 1, "FROM x\nUSER a\nRUN cat x", "after USER"),
        ("git clone x", "Permission denied (publickey).", 128, "FROM x\nRUN git clone x", "docker build ."),
        (
            "apt-get install curl",
            "E: Unable to locate package curl",
            100,
            "FROM x\nRUN apt-get \\\n  update\nRUN apt-get install curl",  # which may have been long ago
            "docker build .",
        ),
    ],
)
def test_what_the_dockerfile_says_besides_is_taken_into_account(  # type: ignore[no-untyped-def]
    builder, command: str, printed: str, code: int, dockerfile: str, hint: str
) -> None:
    assert hint in (diagnose.why_build_failed(builder(printed, command, code), dockerfile)[1] or "")


@BUILDERS
def test_an_instruction_that_became_a_part_of_the_one_before_is_named(builder) -> None:  # type: ignore[no-untyped-def]
    command = "pip install -r requirements.txt COPY app.py ."
    output = builder("ERROR: No matching distribution found for COPY", command)
    dockerfile = "FROM x\nRUN pip install \\\n  -r requirements.txt \\\n# the code\nCOPY app.py .\n"
    assert "COPY is taken for the rest" in (diagnose.why_build_failed(output, dockerfile)[1] or "")
    exposed = f"{V0}invalid containerPort: CMD"
    assert "CMD is taken" in (diagnose.why_build_failed(exposed, "FROM x\nEXPOSE 5000 \\\nCMD x\n")[1] or "")
    probe = f'{V0}dockerfile parse error line 2: Unknown type "X" in HEALTHCHECK (try CMD)'
    assert "has the word CMD" in (
        diagnose.why_build_failed(probe, "FROM x\nHEALTHCHECK --interval=1s \\\n  CMD true\n")[1] or ""
    )
    unbroken = dockerfile.replace(".txt \\", ".txt")
    assert "COPY is taken for the rest" not in (diagnose.why_build_failed(output, unbroken)[1] or "")


@pytest.mark.parametrize(
    "said",
    [
        'failed to compute cache key: "/requirement.txt" not found: not found',
        'failed to calculate checksum of ref x: "/requirement.txt": not found',
        "Step 2/2 : COPY requirement.txt .\nCOPY failed: file not found in build context or excluded by"
        " .dockerignore: stat requirement.txt: file does not exist",
    ],
)
def test_a_file_that_is_called_otherwise_or_left_out_is_named(said: str) -> None:
    def hint(*files: str) -> str:
        return diagnose.why_build_failed(said, files=files)[1] or ""

    assert "is “requirements.txt” meant?" in hint("Dockerfile", "requirements.txt")
    assert "is “Requirement.txt” meant?" in hint("Requirement.txt")
    assert "`.dockerignore` leaves it out" in hint("requirement.txt", ".dockerignore")
    assert "COPY takes files" in hint("requirement.txt")
    assert "COPY takes files" in hint("app.py")


def test_a_file_that_another_stage_lacks_is_not_looked_for_here() -> None:
    said = '#9 [stage-1 3/4] COPY --from=build /app /app\n#9 ERROR: failed to calculate checksum: "/app": not found'
    assert "COPY --from takes" in (diagnose.why_build_failed(said, files=["app", ".dockerignore"])[1] or "")


@pytest.mark.parametrize(
    "dockerfile",
    [
        'FROM x\nRUN sqlite3 a.db "SELECT name \\\n FROM t"\n',
        "# escape=`\nFROM x\nRUN echo C:\\\nFROM y\n",
        "FROM x\nRUN cat <<EOF \\\nFROM y\nEOF\n",
    ],
)
def test_a_word_that_is_no_instruction_where_it_stands_is_not_named(dockerfile: str) -> None:
    said = buildkit("E: y", "sqlite3 a.db SELECT name FROM t")
    assert "is taken for" not in (diagnose.why_build_failed(said, dockerfile)[1] or "")


def test_an_option_of_another_instruction_is_not_suggested_for_itself() -> None:
    said = f"{V0}dockerfile parse error line 2: unknown flag: --from"
    assert "is --from meant" not in (diagnose.why_build_failed(said, "FROM x\nADD --from=y /a /b\n")[1] or "")


def test_what_a_step_only_warned_of_is_not_why_it_failed() -> None:
    said = buildkit("configure: WARNING: unrecognized options: --disable-foo\nmake: *** Error 1", "make")
    assert "no such option" not in (diagnose.why_build_failed(said)[1] or "")


def test_a_dockerfile_in_utf_16_is_told_to_be_that() -> None:
    dockerfile = "FROM x\n".encode("utf-16").decode("utf-8", "replace")
    for said in (
        "no build stage in current context",
        f"{V0}dockerfile parse error line 1: unknown instruction: F",
    ):
        assert "UTF-8" in (diagnose.why_build_failed(said, dockerfile)[1] or "")


@pytest.mark.parametrize(
    ("dockerfile", "slip"),
    [
        ("FROM x AS builder\nFROM bulider\n", ("bulider", "builder")),
        ("FROM x AS Builder\nFROM y\nCOPY --chown=1 --from=bulider /a /b\n", ("bulider", "Builder")),
        (
            "FROM x AS builder\nFROM y\nRUN --mount=type=bind,from=bulider,target=/x true\n",
            ("bulider", "builder"),
        ),
        ("FROM bulider AS builder\n", None),  # an image, whatever its stage is called
        ("FROM x AS deps\nFROM bulider\n", None),
        ("FROM x AS builder\nFROM bulider:1\n", None),
        ("FROM x AS builder\nFROM my/bulider\n", None),
        ("FROM x AS bulider\nFROM y AS builder\nFROM bulider\n", None),
        ("FROM x AS builder\nFROM buildr\n", None),  # another one was asked for
    ],
)
def test_a_misspelt_stage_is_named(dockerfile: str, slip: tuple[str, str] | None) -> None:
    denied = [*refused(f"docker.io/library/bulider:latest: {DENIED}"), from_classic(f"for bulider: {DENIED}")]
    for said in denied:
        assert transcript.misspelt_stage(said, dockerfile) == slip
        hint = diagnose.why_build_failed(said, dockerfile)[1] or ""
        assert ("no stage of this Dockerfile" in hint) is bool(slip)


def test_a_misspelt_stage_is_named_where_no_registry_can_be_asked() -> None:
    said = 'Step 2/2 : FROM bulider\nGet "https://registry-1.docker.io/v2/": dial tcp: lookup x: no such host'
    trouble = builds._trouble(said, "FROM x AS builder\nFROM bulider\n", "20.10.24")
    assert trouble is not None
    assert "“builder”" in (trouble.hint or "")


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        (f"{V0}no build stage in current context", "begins with FROM"),
        (f"{V0}file with no instructions", "begins with FROM"),
        (f"{V0}dockerfile parse error line 5: unknown instruction: EXPOZE", "is EXPOSE meant?"),
        (f"{V0}dockerfile parse error line 5: unknown instruction: RNU", "is RUN meant?"),
        (f"{V0}dockerfile parse error line 5: unknown instruction: CD", "has to end with a backslash"),
        (f"{V0}dockerfile parse error line 5: unknown instruction: CHMOD", "has to end with a backslash"),
        (f"{V0}dockerfile parse error line 5: unknown instruction: USERADD", "has to end with a backslash"),
        (f"{V0}dockerfile parse error line 9: unknown instruction: &&", "has to end with a backslash"),
        (f"{V0}dockerfile parse error line 9: Unknown flag: tart-period", "is --start-period meant?"),
        (f'{V0}dockerfile parse error line 9: Unknown type "[\\"X\\"," in HEALTHCHECK (try CMD)', "has the word CMD"),
        (f"{V0}failed to process \"${{BASE\": missing ':' in substitution", "a brace is not closed"),
        (f"{V0}base name (${{base}}) should not be blank", "ARG has to name it"),
        (f"{V0}Invalid containerPort: abc", "malformed"),
        ('#6 [2/2] COPY a /\n#6 ERROR: "/a" not found\nfailed to compute cache key: "/a" not found', "COPY t"),
        ("Step 2/2 : COPY a /\nCOPY failed: file not found in build context or excluded", "COPY takes"),
        ("Step 2/2 : COPY ../x /\nCOPY failed: forbidden path outside the build context: ../x ()", "COPY takes"),
        ("Step 3/3 : COPY --from=b /x /\nCOPY failed: stat x: file does not exist", "the other stage"),
        ("#4 ERROR: lstat /var/lib/docker/overlay2/3b/merged/x: no such file or directory", "the other stage"),
        (f'{V0}failed to parse stage name "Python:3": invalid reference format: repository name', "lower"),
        ("#4 ERROR: executor failed running [/bin/sh -c true]: unable to find user appuser: no matching", "useradd"),
        ('Step 2/2 : RUN ["x"]\nexec: "x": executable file not found in $PATH: unknown', "install it, or do without"),
    ],
)  # fmt: skip
def test_what_the_builder_refuses_is_explained(output: str, hint: str) -> None:
    assert hint in (diagnose.why_build_failed(output)[1] or "")
