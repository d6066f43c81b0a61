"""What a builder printed, BuildKit or a classic one, taken apart: its own words, and those of the step that failed.

What a RUN prints is the student's to say; only the builder's own words tell of the builder. Pure.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import NamedTuple

_STEP = re.compile(r"^(?=Step \d+/\d+ : )", re.MULTILINE)
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
# BuildKit repeats a failed step between dashes, and newer ones the lines of the Dockerfile about it.
_ECHO = re.compile(r"^(?:------\n.*?^------|[^\n]*:\d+\n-{20}\n.*?^-{20})$", re.MULTILINE | re.DOTALL)
# Both repeat the command that failed.
_QUOTED = re.compile(
    r"executor failed running \[.*\]: |process \".*\" did not complete successfully: |^The command '.*' returned a "
)


@dataclass(frozen=True)
class Transcript:
    """`builder`: its own words. `command`: the instruction that failed, if it came to that; `step`: what it printed."""

    builder: str
    command: str = ""
    step: str = ""

    def short(self) -> Transcript:
        """Its last lines, none of them long: a step may print a mebibyte on one, which some searches take hours for."""
        texts = (
            "\n".join(line[:width] for line in text.split("\n")[-300:])
            for text, width in ((self.builder, 2000), (self.command, 2000), (self.step, 400))
        )
        return Transcript(*texts)


def read(output: str) -> Transcript:
    text = _COLOUR.sub("", output).strip()
    return _classic(text) if _STEP.search(text) else _buildkit(text)


def _buildkit(text: str) -> Transcript:
    # Not splitlines: a progress bar's carriage return begins no line of the builder's.
    lines = _ECHO.sub("", text).split("\n")
    failed = [found[1] for line in lines if (found := re.match(r"#(\d+) ERROR", line))]
    number = failed[-1] if failed else "-"
    own = [re.sub(r"^#\d+ (?:ERROR: )?", "", line) for line in lines if not re.match(r"#\d+ (?!ERROR)", line)]
    command = next((found[1] for line in lines if (found := re.match(rf"#{number} \[.*?\] (.*)", line))), "")
    step = [found[1] for line in lines if (found := re.match(rf"#{number} \d+\.\d+ (.*)", line))]
    return Transcript(_said(own), command, "\n".join(step))


def _classic(text: str) -> Transcript:
    first, *body = _STEP.split(text)[-1].split("\n")
    command = first.partition(" : ")[2]
    if not command.upper().startswith("RUN"):
        return Transcript(_said(body), command)
    body = [line for line in body if not line.startswith(" ---> ")]
    return Transcript(_said(body[-1:]), command, "\n".join(body[:-1]))


def last_stage(output: str) -> list[str]:
    """The instructions of the last stage after its FROM, of a classic build that came to its end; none where what a RUN
    printed looks like one. Podman counts each stage's anew: `[2/2] STEP 1/3: FROM x`."""
    found = re.findall(r"^(?:\[(\d+)/(\d+)\] )?(?:Step|STEP) (\d+)/(\d+) ?: (.*)", output, re.MULTILINE)
    steps = [step for stage, stages, *step in found if stage == stages]
    if [(int(n), int(of)) for n, of, _text in steps] != [(n, len(steps)) for n in range(1, len(steps) + 1)]:
        return []
    texts = [text for _n, _of, text in steps]
    stages = [n for n, text in enumerate(texts) if re.match(r"FROM\s", text, re.IGNORECASE)]
    return texts[stages[-1] + 1 :] if stages else []


# An image that FROM or from= names without a registry, a folder or a tag, as a stage is named.
_NAMED = re.compile(r"\s*(?:FROM\s+(?:--\S+\s+)*|(?:COPY|RUN)\s.*?\bfrom=)([\w-]+)(?=[\s,]|$)", re.IGNORECASE)
_STAGE = re.compile(r"\s*FROM\s.*\sAS\s+([\w.-]+)\s*$", re.IGNORECASE)


class Slip(NamedTuple):
    """The name of an image that the builder could not get, and the stage before it that is almost named so."""

    name: str
    stage: str


def misspelt_stage(output: str, dockerfile: str) -> Slip | None:
    said = read(output)
    asked, stages = f"{said.command}\n{said.builder}", dict[str, str]()
    if said.command.upper().startswith("RUN"):
        return None  # it has all its images
    for line in dockerfile[:20_000].splitlines():  # enough, should it be made to take long
        if (found := _NAMED.match(line)) and found[1].lower() not in stages:
            tried = re.search(rf"(?<![\w.-]){found[1]}(?![\w.-])", asked, re.IGNORECASE)
            near = difflib.get_close_matches(found[1].lower(), stages, 1, 0.8) if tried else ()
            if near:
                return Slip(found[1], stages[near[0]])
        if found := _STAGE.match(line):
            stages[found[1].lower()] = found[1]
    return None


def _said(lines: list[str]) -> str:
    said = dict.fromkeys(
        _QUOTED.sub("", line[:10_000]) for line in lines if line.strip()
    )  # most of it is said twice
    return "\n".join(said)
