"""PM2's ecosystem files: apps in JSON (with comments, as PM2 takes it), in YAML, or in JavaScript.

JavaScript is a program, so only node can say what is in it, and the report says that it was run. The lines of its apps
are then found by their names; what is computed there has no line of its own.
"""

import json
import os
import re
from collections.abc import Iterator

from procclaw.interface.convert.conversion import Conversion, Fate, Ids, Imported, Note, Source, Unconvertible
from procclaw.interface.convert.pm2_app import App
from procclaw.interface.convert.section import Misfit, Section, document, looks_like_mapping
from procclaw.model.errors import NotFound, ProcclawError
from procclaw.model.tree import Entries, Items, Node, Scalar

_PROGRAM = re.compile(r".*\.[cm]?[jt]s")
_IS_PROGRAM = re.compile(r"^[ \t]*(module\.exports|exports\.\w+|export\s+default)\b", re.MULTILINE)
_ANSWER = "procclaw-ecosystem:"
"""Before what the file comes to: it may print things of its own."""
_ASK = f"""
const path = require("path");
const file = path.resolve(process.argv[1]);
(async () => {{
  const read = await import(require("url").pathToFileURL(file).href);
  const said = read.default === undefined ? {{...read}} : read.default;
  const text = JSON.stringify(said);
  require("fs").writeSync(1, "\\n{_ANSWER}" + (text === undefined ? "null" : text));
  process.exit(0);
}})().catch((error) => {{
  console.error(error && error.message ? String(error) : "Error: " + error);
  process.exit(1);
}});
"""
_COMMENT_OR_TEXT = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?)|(?P<comment>//[^\n]*|/\*.*?(?:\*/|\Z))""", re.DOTALL
)
_ELSEWHERE = {
    "deploy": "procclaw deploys nothing; pm2 deploy was ssh, git pull and pm2 reload",
    "static": "nothing is served; a job with cmd: npx serve, for instance, does",
    "module_conf": "PM2's modules have no place here",
}


def looks_like(text: str, kind: str) -> bool:
    if _is_data(text):
        return looks_like_mapping(text, "apps") or re.match(r"\s*[{[]\s*[\"']?apps[\"']?\s*:", text) is not None
    return _IS_PROGRAM.search(text) is not None and re.search(r"\b(apps|script)[\"']?\s*[:,}]", text) is not None


def read(source: Source, kind: str, ids: Ids) -> Conversion:
    """Raises Unconvertible."""
    notes: list[Note] = []
    if _PROGRAM.fullmatch(source.path) or not _is_data(source.text):
        root = _placed(document(source._replace(text=_evaluated(source))), source.text)
        notes.append(Note(0, "the file", Fate.KEPT, "is a program; it was run by node, to read what it comes to"))
    else:
        root = document(source._replace(text=_without_comments(source.text)))
    jobs: list[Imported] = []
    for node in _apps(root, notes):
        try:
            jobs += _jobs(node, source, ids)
        except Misfit as error:
            notes.append(Note(error.line or node.mark[0], _called(node), Fate.REFUSED, str(error)))
    return Conversion(tuple(jobs), (*notes, *(_about_all(source) if jobs else ())))


def _jobs(node: Node, source: Source, ids: Ids) -> Iterator[Imported]:
    if not isinstance(node, Entries):
        raise Misfit(node.mark[0], "is no mapping")
    app = App(Section("app", node), source.folder, source.find)
    for name, fields in app.processes():
        notes, app.notes = tuple(app.notes), []
        yield Imported(ids.of(name), fields, node.mark[0], notes)


def _apps(root: Node, notes: list[Note]) -> list[Node]:
    """PM2 takes `apps`, else `pm2`, else the whole as one app or a list of them."""
    if isinstance(root, Items):
        return root.items
    if not isinstance(root, Entries):
        raise Unconvertible(root.mark[0], "is neither a mapping with apps nor a list of apps")
    key = next((key for key in ("apps", "pm2") if key in root.entries), None)
    if key is None:
        return [root]
    for name, (mark, _) in root.entries.items():
        if name != key:
            says = _ELSEWHERE.get(name, "PM2 does not look at it either")
            notes.append(Note(mark[0], name, Fate.DROPPED, says))
    apps = root.entries[key][1]
    return apps.items if isinstance(apps, Items) else [apps]


def _called(node: Node) -> str:
    name = node.entries["name"][1] if isinstance(node, Entries) and "name" in node.entries else None
    return f"app {name.text}" if isinstance(name, Scalar) else "an app"


def _about_all(source: Source) -> Iterator[Note]:
    says = "is that of procclaw.yaml and env; PM2 hands on all that the shell has that started it, and pm_id"
    yield Note(0, "the environment", Fate.CHANGED, says)
    where = "the account's home" if source.folder is None else "this file's folder"
    yield Note(0, "cwd", Fate.CHANGED, f"is {where} where none is named; PM2's is where pm2 start was called")
    yield Note(
        0, "output", Fate.CHANGED, "is in logs/ of the home and rotated at 10MB; PM2's is in ~/.pm2/logs and grows"
    )


# --- JSON ---


def _is_data(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[") or _IS_PROGRAM.search(text) is None


def _without_comments(text: str) -> str:
    """PM2 lets JavaScript read its JSON, so there may be comments; every line stays where it is."""
    if text.lstrip()[:1] not in ("{", "[", "/"):
        return text

    def blank(found: re.Match[str]) -> str:
        return found[0] if found["text"] is not None else re.sub(r"[^\n]", " ", found[0])

    return _COMMENT_OR_TEXT.sub(blank, text)


# --- JavaScript ---


def _evaluated(source: Source) -> str:
    """What it comes to, as JSON. Raises Unconvertible."""
    if source.ask is None:
        raise Unconvertible(0, "is a program, which has to be a file for node to run it; or give its JSON")
    try:
        printed = source.ask(("node", "-e", _ASK, "--", source.path))
    except NotFound:
        raise Unconvertible(0, f"is a program, and there is no node here to run it; {_elsewhere(source)}") from None
    except ProcclawError as error:
        raise Unconvertible(0, f"is a program that node cannot run: {error}") from None
    _, found, answer = printed.rpartition(f"\n{_ANSWER}")
    try:
        json.loads(answer)
    except (ValueError, RecursionError):
        found = ""
    if not found:
        raise Unconvertible(0, "is a program that ended before it said what its apps are")
    return answer


def _elsewhere(source: Source) -> str:
    name = os.path.basename(source.path)
    return f"where there is one: node -p 'JSON.stringify(require(\"./{name}\"))' > ecosystem.json, and import that"


def _placed(root: Node, text: str) -> Node:
    """The tree with each app on the line of its name, and each key of it where that app names it."""
    if not isinstance(root, Entries | Items):
        return root
    apps = _apps(root, [])
    places = list(_regions(apps, text))
    placed = iter([_moved(app, text, begin, end) for app, (begin, end) in zip(apps, places, strict=True)])
    if isinstance(root, Items):
        return Items((1, 0), list(placed))
    if apps == [root]:
        return next(placed)
    entries: dict[str, tuple[tuple[int, int], Node]] = {}
    for key, (_, node) in root.entries.items():
        mark = (_line(text, _key(key, text, 0, len(text)) or 0), 0)
        is_apps = key == ("apps" if "apps" in root.entries else "pm2")
        entries[key] = (mark, Items(mark, list(placed)) if is_apps else node)
    return Entries((1, 0), entries)


def _regions(apps: list[Node], text: str) -> Iterator[tuple[int, int]]:
    """From where to where each app reaches in the text, as far as its name or script stands there as text."""
    begins: list[int] = []
    at = 0
    for app in apps:
        found = _named(app, text, at)
        if found is not None:
            at = found.end()
            begins.append(max(text.rfind("{", begins[-1] if begins else 0, found.start()), begins[-1] if begins else 0))
        else:
            begins.append(begins[-1] if begins else (_key("apps", text, 0, len(text)) or 0))
    for index, begin in enumerate(begins):
        yield begin, next((end for end in begins[index + 1 :] if end > begin), len(text))


def _named(app: Node, text: str, at: int) -> re.Match[str] | None:
    for key in ("name", "script"):
        node = app.entries.get(key, (None, None))[1] if isinstance(app, Entries) else None
        if isinstance(node, Scalar) and node.text:
            pattern = rf"\b{key}[\"']?\s*:\s*[\"'`]{re.escape(node.text)}[\"'`]"
            if found := re.compile(pattern).search(text, at):
                return found
    return None


def _moved(node: Node, text: str, begin: int, end: int) -> Node:
    line = _line(text, begin)
    if isinstance(node, Items):
        return Items((line, 0), [_moved(item, text, begin, end) for item in node.items])
    if isinstance(node, Scalar):
        return node._replace(mark=(line, 0))
    entries: dict[str, tuple[tuple[int, int], Node]] = {}
    for key, (_, value) in node.entries.items():
        at = _key(key, text, begin, end)
        place = begin if at is None else at
        entries[key] = ((_line(text, place), 0), _moved(value, text, place, end))
    return Entries((line, 0), entries)


def _key(key: str, text: str, begin: int, end: int) -> int | None:
    found = re.compile(rf"(?<![\w$]){re.escape(key)}[\"']?\s*:").search(text, begin, end)
    return None if found is None else found.start()


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
