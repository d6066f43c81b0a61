"""Why a build failed."""

from __future__ import annotations

import re

from grader import transcript
from grader.diagnose.finding import Finding
from grader.i18n import _
from grader.text import one_line, visible


def why_build_failed(output: str) -> Finding:
    said = transcript.read(output)
    printed = f"{said.step}\n{said.builder}"
    tail = visible("\n".join([said.command, *printed.strip().split("\n")][-15:]).strip(), 1500)
    causes = (
        (r"file with no instructions|no build stage.*",
         _("A Dockerfile begins with FROM (only ARG may stand before it).")),
        (r"dockerfile parse error.*|unknown instruction:.*|Invalid containerPort.*",
         _("The Dockerfile itself is malformed; mend the line named.")),
        (r"failed to (?:compute cache key|calculate checksum).*"
         r"|(?:COPY|ADD) failed: (?:file not found|no source|forbidden path).*",
         _("COPY takes files from the directory being built: check the name, and that `.dockerignore` does not"
           " leave it out.")),
        (r"COPY failed: stat .*|lstat \S+/merged/.*",
         _("COPY --from takes a path that the other stage or image has: check it, and the stage before it.")),
        (r".*invalid reference format.*",
         _("FROM names no image: its name is in lower case, then a colon and a tag.")),
        (r".*(?:pull access denied|failed to fetch anonymous token|manifests/\S+: (?:denied|unauthorized)).*"
         r"|.*(?:repository does not exist|manifest unknown|/\S+:\S+: not found$).*",
         _("The base image in FROM does not exist under that name and tag, or is private: check the spelling, and"
           " build on a public image.")),
        (r"Could not find a version that satisfies .*|No matching distribution found for .*",
         _("requirements.txt names a package or version that does not exist, or not for this Python and base image:"
           " check the spelling and version.")),
        (r"Invalid requirement: .*", _("A line of requirements.txt reads NAME==VERSION.")),
        (r"Could not open requirements file.*",
         _("`COPY requirements.txt` has to come before the `RUN pip install` that reads it.")),
        (r"unable to find user .*", _("Create the user before USER names it: RUN useradd --create-home appuser.")),
        (r".*Permission denied.*",
         _("What a RUN after USER does is done as that user: install before USER, or give it the folder.")),
        (r"adduser: (?:command )?not found",
         _("The base image does not have that command: on Debian's slim images, RUN useradd --create-home appuser.")),
        (r"\S+: (?:command |executable file )?not found.*",
         _("The base image does not have that command: install it, or do without.")),
    )  # fmt: skip
    for pattern, hint in causes:
        if found := re.search(pattern, printed, re.MULTILINE | re.IGNORECASE):
            what = one_line(found[0], 200)
            return _("The Dockerfile does not build: {what}\n{tail}").format(what=what, tail=tail), hint
    return (
        _("The Dockerfile does not build. Its last words:\n{tail}").format(tail=tail),
        _("Run `docker build .` in that directory and mend the step that fails."),
    )
