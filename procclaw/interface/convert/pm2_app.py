"""One app of a PM2 ecosystem file as jobs: what is started, and how it is kept up and stopped. Every key of the app
ends as a field or as a note.

PM2 stops restarting an app that ended max_restarts times within min_uptime, but counts only in the first moments after
its start (min_uptime times max_restarts); an app that pauses longer between restarts is restarted for ever. So is ours.
"""

import glob
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

from procclaw.interface.convert.conversion import Fate, Note
from procclaw.interface.convert.section import Misfit, Section
from procclaw.model.references import literal
from procclaw.model.tree import Entries, Items, Node, Scalar

_BY_ENDING = {
    ".sh": "bash", ".py": "python3", ".rb": "ruby", ".php": "php", ".pl": "perl", ".js": "node", ".mjs": "node",
    ".cjs": "node", ".coffee": "coffee", ".ls": "lsc", ".ts": "bun", ".tsx": "bun",
}  # fmt: skip
_PROGRAMS = frozenset({
    "npm", "npx", "yarn", "pnpm", "node", "bun", "deno", "python", "python2", "python3", "uv", "poetry",
    "ruby", "bundle", "php", "java", "dotnet", "go", "bash", "sh",
})  # fmt: skip
"""Looked for in PATH by PM2 as well, for nobody has a script of that name."""
_SERVE = "serve"
"""PM2's own server of static files, unless it is given arguments: then the program of that name."""
_WORD = re.compile(r"""[^\s"'=]+="[^"]*"|[^\s"'=]+='[^']*'|"[^"]*"|'[^']*'|\S+""")
_SIZE = re.compile(r"(?P<count>\d{1,12}(?:\.\d{1,6})?)(?P<unit>[KMG]?)")
_SPAN = re.compile(r"(?P<count>\d{1,12})(?P<unit>[hms]?)")
_WHOLE = re.compile(r"[-+]?(0x[0-9a-fA-F]{1,13}|0o[0-7]{1,17}|0b[01]{1,53}|\d[\d_]{0,15})", re.ASCII)
_FRACTION = re.compile(r"[-+]?\d{1,15}\.\d{1,15}", re.ASCII)
_EXACT = 1 << 53
"""JavaScript knows no larger whole number exactly."""
_MEGABYTE = 1 << 20
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MILLISECONDS = {"": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_LONGEST_PAUSE, _GROWTH, _CALM_SECONDS = 15_000, 1.5, 30
"""PM2's exponential pauses end at 15 s, and begin anew after it was up for 30 s."""
_GRACE, _RESTARTS, _UPTIME = 1600, 16, 1000
"""PM2's defaults: kill_timeout in ms, max_restarts, min_uptime in ms."""
_MOST_INSTANCES = 100
_SERVED = "script serve is PM2's own server of static files: a job with cmd:"
_NO_CHANNEL = "there is no IPC channel to PM2: process.send is undefined, signals are all there is"
_NO_WATCH = "nothing is restarted because a file changed; node --watch or nodemon in cmd does that"
_OUTPUT = "is written in logs/ instead (procclaw logs JOB)"
_FATES: tuple[tuple[str, Fate, str], ...] = (
    (r"watch|ignore_watch|watch_delay|watch_options", Fate.DROPPED, _NO_WATCH),
    (r"wait_ready|listen_timeout|shutdown_with_message", Fate.DROPPED, _NO_CHANNEL),
    (r"out|output|out_log|out_file|error|err|err_file|err_log|error_file|log|log_file|disable_logs|log_type"
     r"|merge_logs|combine_logs", Fate.CHANGED, _OUTPUT),
    (r"pid|pid_file", Fate.DROPPED, "no pid file is written; procclaw status says the pid"),
    (r"env_file", Fate.DROPPED, "PM2 reads no such file; env_file of a job does"),
    (r"env_.*", Fate.DROPPED, "env was taken, as pm2 start does without --env; put into env what shall apply"),
    (r"filter_env", Fate.DROPPED, "nothing of the shell's environment reaches a job anyway"),
    (r"vizion|pmx|automation|trace|disable_trace|v8|event_loop_inspector|deep_monitoring|io|post_update|install_url"
     r"|(disable_)?source_map_support|username|write|windowsHide|force|kill_retry_time|name_prefix|append_env_to_name"
     r"|execute_command|version|namespace|exec_mode", Fate.DROPPED, "is about PM2 itself"),
)  # fmt: skip


_SWITCHES = frozenset(
    {"watch", "wait_ready", "shutdown_with_message", "merge_logs", "combine_logs", "disable_logs", "force"}
)


class App:
    def __init__(self, section: Section, folder: str | None, find: Callable[[str], tuple[str, ...]]) -> None:
        self._section = section
        self._folder = folder
        self._find = find
        self.notes: list[Note] = []
        """About the process that was handed out last."""

    def processes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What each is called, and its fields. Raises Misfit."""
        script = next((text for key in ("script", "exec", "cmd", "command") if (text := self._section.text(key))), None)
        if script is None:
            raise Misfit(self._section.line, "it has no script")
        name = self._section.text("name") or _stem(script)
        if script == _SERVE and not self._words("args"):
            raise Misfit(self._section.line, f"{_SERVED} {self._served()}, for instance, does the same")
        command, is_node = self._command(script)
        fields: dict[str, Any] = {"cmd": [literal(word) for word in command]}
        fields |= self._when() | self._surroundings(command)
        if fields["type"] == "continuous":
            fields |= self._restarts()
        fields |= {"shutdown": self._shutdown()} | self._memory()
        count = self._instances(is_node)
        named = self._section.text("instance_var")
        variable = named or "NODE_APP_INSTANCE"
        counter = self._section.text("increment_var")
        for key, told in (("instance_var", named), ("increment_var", counter)):
            if told and count == 1:
                self._note(key, Fate.KEPT, f"{told} is that of the first instance, the only one here", f"{key} {told}")
        self._tell_the_rest()
        for number in range(count):
            env = dict(fields.get("env", {}))
            if counter:
                start = str(env.get(counter, "0"))
                env[counter] = str((int(start) if re.fullmatch(r"\d{1,9}", start, re.ASCII) else 0) + number)
            if count > 1 or is_node or named:
                # PM2 numbers a single one as well, and programs do things once where it is 0.
                env[variable] = str(number)
            yield (name if count == 1 else f"{name}-{number}"), fields | ({"env": env} if env else {})

    def _note(self, key: str, fate: Fate, says: str, what: str | None = None) -> None:
        self.notes.append(Note(self._section.line_of(key), what or key, fate, says))

    # --- what is started ---

    def _served(self) -> str:
        env = self._environment()
        where = env.get("PM2_SERVE_PATH") or env.get("PM2_SERVER_PATH") or "."
        port = env.get("PM2_SERVE_PORT") or env.get("PM2_SERVER_PORT") or "8080"
        is_one_page = env.get("PM2_SERVE_SPA") == "true"
        return shlex.join(["npx", "serve", *(["-s"] if is_one_page else []), "-l", port, where])

    def _found(self, script: str) -> str:
        """As PM2 looks for it: in cwd, and only then in PATH."""
        if "/" in script or script in _PROGRAMS:
            return script
        cwd = self._cwd()
        is_there = cwd is not None and self._find(glob.escape(os.path.join(cwd, script)))
        if is_there or os.path.splitext(script)[1] in _BY_ENDING:
            return f"./{script}"
        says = f"is looked for in PATH; PM2 takes ./{script} where there is one, which was not seen here"
        self._note("script", Fate.CHANGED, says, f"script {script}")
        return script

    def _cwd(self) -> str | None:
        cwd = self._section.text("cwd")
        if cwd is None or not cwd.startswith(("/", "~")):
            return os.path.normpath(os.path.join(self._folder, cwd or "")) if self._folder is not None else cwd
        return cwd

    def _command(self, script: str) -> tuple[list[str], bool]:
        """Its words, and whether node runs it."""
        args = self._words("args")
        interpreter = self._section.text("interpreter") or self._section.text("exec_interpreter")
        options = [word for key in ("node_args", "interpreter_args", "interpreterArgs") for word in self._words(key)]
        if " " in script:
            if args:
                self._note("args", Fate.DROPPED, "PM2 does not look at it either where script holds a blank")
            return ["bash", "-c", script], False
        if interpreter and interpreter.startswith("node@"):
            self._note("interpreter", Fate.CHANGED, "is the node that PATH finds", f"interpreter {interpreter}")
            interpreter = "node"
        if interpreter is None:
            interpreter = self._guessed(script)
        if interpreter in ("none", ""):
            if options:
                self._note("interpreter_args", Fate.DROPPED, "there is no interpreter")
            return [self._found(script), *args], False
        return [interpreter, *options, script, *args], os.path.basename(interpreter) in ("node", "bun")

    def _guessed(self, script: str) -> str:
        """As PM2 does it, by the ending; it also looks into files that have none, which need not be here."""
        ending = os.path.splitext(script)[1]
        if ending in _BY_ENDING:
            if ending == ".py":
                says = "python3 runs it; PM2 takes python where there is one"
                self._note("script", Fate.CHANGED, says, f"script {script}")
            return _BY_ENDING[ending]
        if "node_modules/" in script or script.endswith("/"):
            return "node"
        if script not in _PROGRAMS:
            says = "runs by itself; PM2 looks into the file and gives it to node unless it is a binary"
            self._note("script", Fate.CHANGED, says, f"script {script}")
        return "none"

    def _words(self, key: str) -> list[str]:
        """A list, or a text that is split as PM2 does it."""
        node = self._section.take(key)
        if node is None or isinstance(node, Items):
            return self._section.texts(key) or []
        text = self._section.text(key) or ""
        words = (word[1:-1] if len(word) > 1 and word[0] == word[-1] in "\"'" else word for word in _WORD.findall(text))
        return [word for word in words if word.strip()]

    # --- when ---

    def _when(self) -> dict[str, Any]:
        cron = self._section.text("cron_restart") or self._section.text("cron")
        key = "cron_restart" if "cron_restart" in self._section.keys else "cron"
        is_kept_up = self._section.flag("autorestart") is not False
        is_wanted = self._section.flag("autostart") is not False
        enabled = {} if is_wanted else {"enabled": False}
        if not is_wanted:
            self._note("autostart", Fate.CHANGED, "it is declared and does not run until procclaw start asks for it")
        if cron is None or cron == "0" or is_kept_up:
            if cron is not None and cron != "0":
                says = "is not restarted at times; a scheduled job with cmd: procclaw restart ID does that"
                self._note(key, Fate.DROPPED, says, f"{key} {cron}")
            return {"type": "continuous", **enabled}
        fields = cron.split()
        if len(fields) == 6 and fields[0] in ("0", "00"):
            fields = fields[1:]
        if len(fields) != 5 and not cron.startswith("@"):
            raise Misfit(self._section.line_of(key), f'{key}: "{cron}": a schedule has minutes, not seconds')
        says = "it runs at these times; PM2 also runs it as soon as it is told of it"
        self._note(key, Fate.CHANGED, says, f"{key} {cron}, autorestart false")
        when = {"type": "scheduled", "schedule": " ".join(fields), "on_overlap": "kill_restart"}
        return {**when, **enabled, "catch_up": {"policy": "none"}, "retry": {"enabled": False}}

    # --- what it finds ---

    def _surroundings(self, command: list[str]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        namespace = self._section.text("namespace")
        if namespace and namespace != "default":
            fields["tags"] = [namespace]
        if cwd := self._cwd():
            fields["cwd"] = cwd
        for keys, ours in ((("uid", "user"), "user"), (("gid",), "group")):
            value = next((text for key in keys if (text := self._section.text(key))), None)
            fields |= {} if value is None else {ours: value}
        env = {name: literal(text) for name, text in self._environment().items()}
        if "python" in command[0]:
            env = {"PYTHONUNBUFFERED": "1"} | env
        return fields | ({"env": env} if env else {}) | self._log()

    def _environment(self) -> dict[str, str]:
        node = self._section.take("env")
        if node is not None and not isinstance(node, Entries):
            raise Misfit(node.mark[0], "env: is no mapping")
        found = {} if node is None else {name: _as_variable(value) for name, (_, value) in node.entries.items()}
        port = self._section.text("port")
        return found | ({} if port is None else {"PORT": port})

    def _log(self) -> dict[str, Any]:
        form = self._section.text("log_date_format")
        if not self._section.flag("time") and not form:
            return {}
        key = "log_date_format" if form else "time"
        self._note(key, Fate.CHANGED, "the times in front of lines are in the form of ISO 8601, in UTC")
        return {"log": {"timestamps": True}}

    # --- how it is kept up ---

    def _restarts(self) -> dict[str, Any]:
        codes = self._codes()
        if codes and self._section.flag("autorestart") is False:
            self._note("stop_exit_codes", Fate.KEPT, "makes no difference: it is not started again in any case")
        is_kept_up = self._section.flag("autorestart") is not False
        delays, is_growing = self._delays()
        restarts = self._at_least("max_restarts", _RESTARTS)
        uptime = self._milliseconds("min_uptime", _UPTIME)
        if not is_kept_up:
            return {"restart": "never"}
        pauses = sum((delays + [delays[-1]] * restarts)[: max(0, restarts - 1)])
        is_endless = restarts > 0 and pauses >= uptime * restarts
        retry = {
            "delays": [_seconds(each) for each in delays],
            "max_attempts": "unlimited" if is_endless else max(0, restarts - 1),
            "reset_after": _CALM_SECONDS if is_growing else _seconds(uptime),
        }
        if not codes:
            return {"restart": "always", "retry": retry}
        return {"restart": "on_failure", "success_exit_codes": codes, "retry": retry}

    def _codes(self) -> list[int]:
        """With these it is not started again."""
        node = self._section.take("stop_exit_codes")
        if isinstance(node, Items):
            texts = self._section.texts("stop_exit_codes") or []
        else:
            texts = [text] if (text := self._section.text("stop_exit_codes")) else []
        if not all(re.fullmatch(r"\d{1,3}", text, re.ASCII) and int(text) < 256 for text in texts):
            raise Misfit(self._section.line_of("stop_exit_codes"), "stop_exit_codes: is no list of exit codes")
        return [int(text) for text in texts]

    def _delays(self) -> tuple[list[int], bool]:
        """In milliseconds, and whether they grow."""
        growing = self._at_least("exp_backoff_restart_delay", 0)
        steady = self._at_least("restart_delay", 0)
        if not growing:
            return [steady], False
        delays = [growing]
        while 1 < delays[-1] < _LONGEST_PAUSE:
            delays.append(int(min(_LONGEST_PAUSE, delays[-1] * _GROWTH)))
        return delays, True

    def _shutdown(self) -> dict[str, Any]:
        if self._section.flag("treekill") is False:
            self._note("treekill", Fate.CHANGED, "a stop reaches all processes of the job")
        return {"signal": "SIGINT", "grace_period": _seconds(self._at_least("kill_timeout", _GRACE))}

    def _memory(self) -> dict[str, Any]:
        text = self._section.text("max_memory_restart")
        if text is None or text == "0":
            return {}
        found = _SIZE.fullmatch(text)
        if found is None:
            raise Misfit(
                self._section.line_of("max_memory_restart"), f'max_memory_restart: "{text}" is no size like 150M'
            )
        megabytes = round(float(found["count"]) * _UNITS[found["unit"]] / _MEGABYTE, 3)
        self._note("max_memory_restart", Fate.CHANGED, "counts what the process has started along with it")
        limit = int(megabytes) if megabytes.is_integer() else megabytes
        return {"resources": {"max_memory_mb": limit, "action": "restart"}}

    def _instances(self, is_node: bool) -> int:
        """How many jobs it takes: workers that share a socket are one."""
        text = self._section.text("instances")
        mode = self._section.text("exec_mode") or ("cluster" if is_node and text else "fork")
        count = int(text) if text is not None and re.fullmatch(r"-?\d{1,6}", text, re.ASCII) else (0 if text else 1)
        if count == 1:
            return 1
        if mode.startswith("cluster"):
            how_many = "one for each processor" if count <= 0 else str(count)
            says = f"one process; PM2 runs {how_many} behind one port. node:cluster in the program does that here too"
            self._note("instances", Fate.CHANGED, says, f"instances {text}, cluster")
            return 1
        if count > _MOST_INSTANCES:
            raise Misfit(self._section.line_of("instances"), f"instances: more than {_MOST_INSTANCES}")
        if count <= 0:
            self._note(
                "instances", Fate.CHANGED, "one process; PM2 runs as many as there are processors", f"instances {text}"
            )
        return max(1, count)

    # --- reading ---

    def _is_off(self, key: str) -> bool:
        node = self._section.node(key)
        return isinstance(node, Scalar) and node.text in ("false", "")

    def _at_least(self, key: str, otherwise: int) -> int:
        """A whole number from 0."""
        text = self._section.text(key)
        if text is None:
            return otherwise
        if not re.fullmatch(r"\d{1,9}(\.0*)?", text, re.ASCII):
            raise Misfit(self._section.line_of(key), f'{key}: "{text}" is no number')
        return int(float(text))

    def _milliseconds(self, key: str, otherwise: int) -> int:
        text = self._section.text(key)
        found = _SPAN.fullmatch(text or "")
        if text is not None and found is None:
            raise Misfit(self._section.line_of(key), f'{key}: "{text}" is no time like 10s')
        return otherwise if found is None else int(found["count"]) * _MILLISECONDS[found["unit"]]

    def _tell_the_rest(self) -> None:
        """Keys of one fate share a note; what is switched off is not missed."""
        for _, key in list(self._section.left()):
            if key in _SWITCHES and self._is_off(key):
                self._section.take(key)
        for pattern, fate, says in _FATES:
            keys = [(line, key) for line, key in self._section.left() if re.fullmatch(pattern, key)]
            for _, key in keys:
                self._section.take(key)
            if keys:
                self.notes.append(Note(keys[0][0], ", ".join(key for _, key in keys), fate, says))
        self.notes += [
            Note(line, key, Fate.DROPPED, "PM2 knows no such key either") for line, key in self._section.left()
        ]


def _stem(script: str) -> str:
    base = os.path.basename(script.rstrip("/"))
    return base[: base.rindex(".")] if base.rfind(".") > 0 else base


def _seconds(milliseconds: int) -> int | float:
    return milliseconds // 1000 if milliseconds % 1000 == 0 else milliseconds / 1000


def _as_variable(node: Node) -> str:
    """As PM2 hands it on: what is no text goes as JavaScript writes it."""
    if not isinstance(node, Scalar):
        return json.dumps(_said(node), separators=(",", ":"), ensure_ascii=False)
    return _as_number(node.text) if node.is_plain else node.text


def _as_number(text: str) -> str:
    """A number as JavaScript writes it, once it has read it; anything else, and what it would round, as it stands."""
    if _WHOLE.fullmatch(text):
        number = int(text.replace("_", ""), 0 if text.lstrip("-+")[1:2].isalpha() else 10)
        return str(number) if abs(number) < _EXACT else text
    if _FRACTION.fullmatch(text) and abs(float(text)) < _EXACT:
        fraction = float(text)
        return str(int(fraction)) if fraction.is_integer() else repr(fraction)
    return text


def _said(node: Node) -> Any:
    if isinstance(node, Items):
        return [_said(item) for item in node.items]
    if isinstance(node, Entries):
        return {name: _said(value) for name, (_, value) in node.entries.items()}
    if node.is_plain and re.fullmatch(r"true|false|null|-?\d{1,15}(\.\d{1,9})?", node.text, re.ASCII):
        return json.loads(node.text) if not re.match(r"-?0\d", node.text) else node.text
    return node.text
