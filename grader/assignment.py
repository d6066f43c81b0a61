"""The assignment file: what is asked, and what it is worth. Reading is the only I/O; scoring is pure."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .later import first_used
from .model import AssignmentRef, Level, Misuse, Outcome, Verdict
from .reference import MalformedReference, Reference
from .text import one_line

HERE = Path(__file__).parent
DEFAULT = HERE / "assignments" / "tp1.yaml"
SCHEMA = HERE / "assignments" / "assignment-v1.schema.json"
# A wheel carries the checks inside the package; a checkout has them beside it.
CHECKS = next((d for d in (HERE / "checks", HERE.parent / "checks") if d.is_dir()), HERE / "checks")


@dataclass(frozen=True)
class Route:
    """A request and what its answer must be. `text` and `json` are None where not asked for."""

    method: str = "GET"
    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    status: int = 200
    text: str | None = None
    match: str = "contains"
    ignore_case: bool = False
    json: Any = None
    exact: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Check:
    """One demand of an assignment. `route` is set where the demand is an answer over HTTP."""

    id: str
    level: Level
    points: float = 0
    title: str | None = None
    route: Route | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What a submission gets to run with. Sizes in bytes."""

    memory: int = 512_000_000
    processes: int = 256
    cpus: float = 2
    log: int = 8_000_000
    disk: int = 1_000_000_000
    network: str = "isolated"
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Timeouts:
    """Seconds. `start` ends with the first HTTP answer; `settle` is how long it may still turn right."""

    build: float = 600
    pull: float = 600
    start: float = 30
    request: float = 10
    settle: float = 2
    stop: float = 10
    total: float = 1500


@dataclass(frozen=True)
class Assignment:
    """A lab. `digest` is of the file's bytes; `extra` is a folder of further pytest checks; `starter` names the images
    that were handed out."""

    id: str
    title: str
    digest: str
    checks: tuple[Check, ...]
    image: str | None = None
    platform: str = "linux/amd64"
    port: int = 5000
    run: Run = Run()
    timeouts: Timeouts = Timeouts()
    extra: Path | None = None
    starter: tuple[str, ...] = ()

    @property
    def ref(self) -> AssignmentRef:
        return AssignmentRef(self.id, self.title, self.digest)

    def check(self, check_id: str) -> Check | None:
        return next((c for c in self.checks if c.id == check_id), None)


def load(path: Path = DEFAULT) -> Assignment:
    """The assignment in the YAML file `path`. Misuse names every mistake by its place in the file."""
    with first_used("yaml.reader"):  # C's loader, where there is one, has its own
        import yaml  # who is handed an assignment reads no file

    try:
        raw = path.read_bytes()
        if path != DEFAULT and _too_deep(raw):  # the one that ships is validated by the tests
            raise Misuse(f"{path} is not YAML: nested too deep")
        data = yaml.load(raw, _loader())  # noqa: S506 - a SafeLoader
        if data is None:
            raise Misuse(f"{path} is empty; {DEFAULT} is one to begin with")
    except OSError as error:
        raise Misuse(f"cannot read the assignment {path}: {error.strerror}") from None
    # All but the first are PyYAML's slips, over 2026-02-30 or !!int ''.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:
        raise Misuse(f"{path} is not YAML: {one_line(str(error))}") from None
    if path != DEFAULT and (mistakes := list(_mistakes(data, path))):
        raise Misuse("\n".join(f"{path}: {m}" for m in mistakes))
    extra = _extra(data, path)
    checks = tuple(_check(key, value) for key, value in data["checks"].items())
    run = dict(data.get("run", {}))
    for key in ("memory", "log", "disk"):
        if key in run:
            run[key] = size_in_bytes(run[key])
    return Assignment(
        id=data["id"],
        title=data["title"],
        digest="sha256:" + hashlib.sha256(raw).hexdigest(),
        checks=checks,
        run=Run(**run),
        timeouts=Timeouts(**data.get("timeouts", {})),
        extra=extra,
        starter=_starter(data),
        **{key: data[key] for key in ("image", "platform", "port") if key in data},
    )


def _too_deep(raw: bytes, most: int = 100) -> bool:
    """Whether the YAML is nested deeper than can be read: C's loader would take the whole process down."""
    import yaml

    depth = 0
    for event in yaml.parse(raw, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > most:
            return True
    return False


def _loader() -> type[Any]:
    """YAML without duplicate keys: of two checks with one id, one would be lost without a word."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise yaml.constructor.ConstructorError(None, None, "a key is one word", key.start_mark)
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice", key.start_mark
                    )
                seen.add(key.value)
            mapping: dict[Any, Any] = super().construct_mapping(node, deep)
            return mapping

    return Loader


def _mistakes(data: Any, path: Path) -> Iterator[str]:
    """All of them, by their place in the file: what is of the wrong type is left out of what is looked at next."""
    if unlike_json := list(_not_json(data, ())):
        yield from unlike_json
        return
    errors = sorted(_validator().iter_errors(data), key=lambda e: [str(p) for p in e.absolute_path])
    yield from (f"{_place(e.absolute_path)}: {_mistake(e)}" for e in errors)
    found = data if isinstance(data, dict) else {}
    given = found.get("checks")
    checks = {k: v for k, v in given.items() if isinstance(v, dict)} if isinstance(given, dict) else {}
    yield from _bad_patterns(checks)
    starter = found.get("starter")
    names = [starter] if isinstance(starter, str) else starter if isinstance(starter, list) else []
    yield from _bad_references(name for name in names if isinstance(name, str))
    yield from _unknown(checks, _extra(found, path))


def _extra(data: Mapping[str, Any], path: Path) -> Path | None:
    folder = data.get("extra")
    return (path.parent / folder).resolve() if folder and isinstance(folder, str) else None


def _not_json(value: Any, place: tuple[str | int, ...], above: tuple[int, ...] = ()) -> Iterator[str]:
    """What YAML can say and JSON cannot, by its place: a date, a key that is no text, what holds itself."""
    if id(value) in above:
        yield f"{_place(place)}: it holds itself"
    elif isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            if isinstance(value, dict) and not isinstance(key, str):
                yield f"{_place(place)}: {one_line(str(key), 60)} must be of type string: put it in quotes"
            else:
                yield from _not_json(inner, (*place, key), (*above, id(value)))
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{_place(place)}: {value} is no number that can be counted with"
    elif value is not None and not isinstance(value, (str, int, float)):
        yield f"{_place(place)}: {one_line(str(value), 60)} is of no type that JSON has: put it in quotes"


def _validator() -> Any:
    """JSON Schema's, but that 1.0 is no integer, and that no pattern looks away from a line feed at the end."""
    import jsonschema

    def pattern(_validator: Any, pattern: str, text: Any, _schema: Any) -> Iterator[Any]:
        if isinstance(text, str) and not re.fullmatch(pattern, text):  # all are anchored
            yield jsonschema.ValidationError(f"{text!r} does not match {pattern!r}")

    base = jsonschema.Draft202012Validator
    types = base.TYPE_CHECKER.redefine(
        "integer", lambda _checker, value: isinstance(value, int) and not isinstance(value, bool)
    )
    extend: Any = jsonschema.validators.extend  # has no types of its own
    strict = extend(base, {"pattern": pattern}, type_checker=types)
    return strict(json.loads(SCHEMA.read_text("utf-8")))


def _bad_patterns(checks: Mapping[str, Any]) -> Iterator[str]:
    for key, check in checks.items():
        expect = check.get("expect")
        try:
            if isinstance(expect, dict) and expect.get("match") == "regex":
                re.compile(str(expect.get("text", "")))
        except (re.error, OverflowError, RecursionError) as error:
            yield f"checks.{key}.expect.text: not a regular expression: {error}"


def _bad_references(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        try:
            Reference.parse(name)
        except MalformedReference as error:
            yield f"starter: {error}"


def _starter(data: Mapping[str, Any]) -> tuple[str, ...]:
    given = data.get("starter", [])
    return (given,) if isinstance(given, str) else tuple(given)


def _place(parts: Iterable[str | int]) -> str:
    return ".".join(map(str, parts)) or "the file"


def _mistake(error: Any) -> str:
    """What is wrong, and the values allowed. `error` is a jsonschema ValidationError."""
    got = one_line(json.dumps(error.instance, default=str), 60)
    match error.validator:
        case "additionalProperties":
            unknown = sorted(set(error.instance) - set(error.schema.get("properties", {})))
            allowed = ", ".join(error.schema.get("properties", {}))
            return f"unknown key {', '.join(map(repr, unknown))}; allowed: {allowed}"
        case "required" | "dependentRequired":
            return one_line(error.message)
        case "enum":
            return f"{got} is none of {', '.join(map(str, error.validator_value))}"
        case "const":
            return f"{got} must be {error.validator_value!r}"
        case "type":
            wanted = error.validator_value
            return f"{got} must be of type {wanted if isinstance(wanted, str) else ' or '.join(wanted)}"
        case "pattern":
            about = error.schema.get("description")
            return f"{got} does not match {error.validator_value}" + (f" ({about})" if about else "")
        case _:
            return one_line(error.message)


def _check(check_id: str, data: Mapping[str, Any]) -> Check:
    rest = {k: v for k, v in data.items() if k not in ("level", "points", "title", "request", "expect")}
    if "limit" in rest:
        rest["limit"] = size_in_bytes(rest["limit"])
    return Check(
        id=check_id,
        level=data["level"],
        points=data.get("points", 0),
        title=data.get("title"),
        route=_route(data.get("request", {}), data["expect"]) if "expect" in data else None,
        options=rest,
    )


def _route(request: Mapping[str, Any], expect: Mapping[str, Any]) -> Route:
    request = dict(request)
    headers = dict(request.pop("headers", {}))
    body: bytes | None = None
    if "json" in request:
        body = json.dumps(request.pop("json")).encode()
        headers.setdefault("Content-Type", "application/json")
    if "body" in request:
        body = str(request.pop("body")).encode()
    return Route(**request, headers=headers, body=body, **expect)


_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def size_in_bytes(value: str | int) -> int:
    """Bytes of `100 MB` (10^6), `64 MiB` (2^20) or a plain number. ValueError otherwise."""
    if isinstance(value, int):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", value)
    if not found or found[2] not in _UNITS:
        raise ValueError(f"not a size: {value!r}")
    return int(float(found[1]) * _UNITS[found[2]])


# --- the catalogue: what can be asked ---------------------------------------------------------------


def catalogue(folder: Path = CHECKS) -> dict[str, str]:
    """Check id → docstring, of every `test_*` function below `folder`; read as text, nothing is run."""
    found: dict[str, str] = {}
    for file in sorted(folder.glob("**/test_*.py")):
        for node in ast.parse(file.read_bytes(), str(file)).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[check_id(node.name)] = ast.get_docstring(node) or node.name
    found.pop("route", None)  # the routes' own ids are the assignment's
    return found


def check_id(function: str) -> str:
    """`test_pip_cache` → `pip-cache`."""
    return function.removeprefix("test_").replace("_", "-")


def _unknown(checks: Mapping[str, Mapping[str, Any]], extra: Path | None) -> Iterator[str]:
    """Checks that no test is there for, and why the folder of further ones cannot be read."""
    further: dict[str, str] = {}
    try:
        if extra and not extra.is_dir():
            yield f"extra: there is no folder {extra}"
        elif extra:
            further = catalogue(extra)
    except SyntaxError as error:
        yield f"extra: {error.filename}, line {error.lineno}: {error.msg}"
    known = {**catalogue(), **further}
    for name, check in checks.items():
        if "expect" not in check and name not in known:
            yield f"checks.{one_line(name, 60)}: unknown check; one without `expect` is one of {', '.join(known)}"


# --- scoring ----------------------------------------------------------------------------------------


def score(outcomes: Sequence[Outcome]) -> tuple[Verdict, float | None, float]:
    """Verdict, score, and the score that could be had. Where a check that counts ended in `error`
    the score is withheld: our trouble is never the student's."""
    required = [o for o in outcomes if o.level == "required"]
    counted = [o for o in outcomes if o.status != "skipped" and o.level != "advice"]
    best = sum(o.max_points for o in counted if o.level == "required")
    verdict: Verdict = "passed"
    if any(o.status == "error" for o in required):
        verdict = "ungraded"
    elif any(o.status not in ("passed", "skipped") for o in required):
        verdict = "failed"
    withheld = verdict == "ungraded" or any(o.status == "error" and o.max_points for o in counted)
    return verdict, None if withheld else sum(o.points for o in counted), best
