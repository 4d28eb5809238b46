"""A stand-in for the `openclaw` command: the same words, the same JSON, the same exit codes, and no Node.

What it prints was seen from openclaw 2026.9.6; `tests/test_openclaw.py` asks the real one the same questions when there
is one. The command reads its `knobs.json` afresh each time, and leaves a line for every call.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

UP, DOWN, QUEUED, BAD_TOKEN, NO_TOKEN, WRONG_NODE, HANGS, SILENT = (
    "up",
    "down",
    "queued",
    "bad token",
    "no token",
    "wrong node",
    "hangs",
    "silent",
)
"""How the gateway, or the command itself, is."""

_SCRIPT = r"""
import json, os, shutil, signal, sys

here = os.path.dirname(os.path.abspath(__file__))
words = sys.argv[1:]
home = os.environ.get("HOME", "/")
state = os.environ.get("OPENCLAW_STATE_DIR") or os.path.join(home, ".openclaw")


def read(name, default):
    try:
        with open(os.path.join(here, name)) as file:
            return json.load(file)
    except FileNotFoundError:
        return default


knobs = read("knobs.json", {})
mode = knobs.get("mode", "up")
with open(os.path.join(here, "calls.jsonl"), "a") as calls:
    env = {name: value for name, value in os.environ.items() if name.startswith("OPENCLAW_") or name == "HOME"}
    calls.write(json.dumps({"words": words, "env": env}) + "\n")


def answer(value):
    print(json.dumps(value, indent=2))
    raise SystemExit(0)


def fail(type, message, **more):
    extra = more.pop("beside", {})
    print(json.dumps({"ok": False, "error": {"type": type, "message": message, **more}, **extra}, indent=2))
    print(message, file=sys.stderr)
    raise SystemExit(1)


def hang():
    signal.alarm(600)  # should nobody be left to kill it
    signal.pause()


if mode == "wrong node":
    print("openclaw: Node 20.20.2: node:sqlite is unavailable; use 24.16+/26.1+", file=sys.stderr)
    raise SystemExit(1)
if mode == "hangs":
    hang()
if words == ["--version"]:
    print("OpenClaw 2026.9.6 (eb377ac)")
    raise SystemExit(0)
if words[:2] == ["skills", "install"]:
    source, name = words[2], os.path.basename(words[2])
    if not os.path.isabs(source):
        print(f"Invalid skill slug: {source}", file=sys.stderr)
        raise SystemExit(1)
    if not os.path.isdir(source):
        print(f"Skill path not found: {source}", file=sys.stderr)
        raise SystemExit(1)
    into = os.path.join(state, "skills", name)
    if os.path.exists(into) and "--force" not in words:
        print(f"Skill already exists at {into}. Re-run with force/update.", file=sys.stderr)
        raise SystemExit(1)
    shutil.copytree(source, into, dirs_exist_ok=True)
    print(f"Installing to {into}…\nInstalled {name} from path -> {into}")
    raise SystemExit(0)
if words[:2] == ["skills", "info"]:
    name = words[2]
    path = os.path.join(state, "skills", name, "SKILL.md")
    text = open(path).read() if os.path.exists(path) else ""
    if not text.startswith("---\n") or "\ndescription:" not in text:
        fail("cli_error", f'Skill "{name}" not found.', beside={"skill": name})
    is_there = shutil.which(name) is not None
    missing = {"bins": [] if is_there else [name], "anyBins": [], "env": [], "config": [], "os": []}
    about = {"name": name, "source": "openclaw-managed", "filePath": path, "baseDir": os.path.dirname(path)}
    about |= {"disabled": False, "blockedByAllowlist": False, "blockedByAgentFilter": False}
    answer(about | {"eligible": is_there, "modelVisible": is_there, "commandVisible": is_there, "missing": missing})
if words == ["agents", "list", "--json"]:
    workspace = os.environ.get("OPENCLAW_WORKSPACE_DIR") or os.path.join(state, "workspace")
    answer([{"id": "main", "workspace": workspace, "agentDir": "x", "bindings": 0, "isDefault": True}])
if words == ["memory", "index"]:
    raise SystemExit(0)
if words[:2] == ["memory", "search"]:
    folder = os.path.join(state, "workspace", "memory")
    pages = [name for name in os.listdir(folder) if name.endswith(".md")]
    names = [name for name in pages if words[2] in open(f"{folder}/{name}").read()]
    answer({"results": [{"path": f"memory/{name}", "source": "memory"} for name in names]})
if words[:2] == ["config", "get"]:
    value = knobs.get("config", {}).get(words[2])
    if value is None:
        fail("cli_error", f"Config path is valid but unset: {words[2]}. The runtime default applies.")
    answer(value)
if words[:2] == ["gateway", "call"] and words[3:5] == ["--json", "--params"]:
    method, params = words[2], json.loads(words[5])
    if mode == "no token":
        told = f"gateway {method} requires credentials before opening a websocket\nFix: x"
        fail("gateway_credentials_required", told)
    if mode == "down":
        told = "Gateway not reachable at ws://127.0.0.1:18999 (ECONNREFUSED)."
        fail("gateway_transport_error", told, kind="closed", reason="connect ECONNREFUSED 127.0.0.1:18999")
    if mode == "bad token":
        details = {"code": "AUTH_TOKEN_MISMATCH"}
        fail("gateway_request_error", "unauthorized", code="INVALID_REQUEST", details=details, retryable=False)
    if method == "wake":
        with open(os.path.join(here, "woken.jsonl"), "a") as woken:
            woken.write(json.dumps(params) + "\n")
        answer({"ok": True})
    assert method == "send" and set(params) == {"channel", "to", "message", "idempotencyKey"}, params
    if params["channel"] not in knobs.get("channels", ["telegram"]):
        told = f"unsupported channel: {params['channel']}"
        fail("gateway_request_error", told, code="INVALID_REQUEST", retryable=False)
    replies = read("replies.json", {})
    key = params["idempotencyKey"]
    if key not in replies:
        replies[key] = None if mode == "queued" else str(101 + len(replies))
        with open(os.path.join(here, "sent.jsonl"), "a") as sent:
            sent.write(json.dumps(params) + "\n")
        with open(os.path.join(here, "replies.json"), "w") as file:
            json.dump(replies, file)
    if mode == "silent":
        hang()
    if replies[key] is None:
        details = {"code": "OUTBOUND_DELIVERY_QUEUED"}
        fail("gateway_request_error", "send failed", code="UNAVAILABLE", details=details, retryable=False)
    answer({"runId": key, "messageId": replies[key], "channel": params["channel"]})
fail("cli_error", "unknown command: " + " ".join(words))
"""


class Call(NamedTuple):
    words: tuple[str, ...]
    env: dict[str, str]


class Stub:
    """The command in a folder of its own, to be put on a PATH."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        script = folder / "openclaw"
        script.write_text(f"#!{sys.executable} -I\n{_SCRIPT}")
        script.chmod(0o755)
        self.be(UP)

    @property
    def env(self) -> dict[str, str]:
        """As `env` of procclaw.yaml: a PATH with the command, and a HOME to which it may write."""
        return {"PATH": f"{self.folder}:/usr/bin:/bin", "HOME": str(self.home)}

    def be(self, mode: str, **knobs: Any) -> None:
        """`config`: by path what OpenClaw's configuration says; `channels`: those that it can send to."""
        beside = self.folder / "knobs.new"
        beside.write_text(json.dumps({"mode": mode, **knobs}))
        os.replace(beside, self.folder / "knobs.json")

    @property
    def calls(self) -> list[Call]:
        return [Call(tuple(each["words"]), each["env"]) for each in self._lines("calls")]

    @property
    def sent(self) -> list[dict[str, Any]]:
        """What went out on the wire."""
        return self._lines("sent")

    @property
    def woken(self) -> list[dict[str, Any]]:
        return self._lines("woken")

    def _lines(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Gateway:
    """A stand-in for the hooks of OpenClaw's gateway: the requests it takes, and the answers seen from 2026.9.6."""

    def __init__(self) -> None:
        self.token = "a-hook-token"
        self.is_enabled = True
        self.completion: dict[str, Any] | None = {
            "status": "ok",
            "replyDisposition": "visible",
            "delivered": True,
            "deliveryAttempted": True,
        }
        """None: the agent cannot begin, as when its model was found away a moment ago."""
        self.runs: dict[str, dict[str, Any]] = {}
        """By key and request, what the agent was asked. The real one forgets a run five minutes after its end."""
        self.asked = 0
        gateway = self

        class Hooks(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                gateway.asked += 1
                status, answer = gateway.answer(self.path, dict(self.headers), body)
                told = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Hooks)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hooks"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str | dict[str, Any]]:
        if not self.is_enabled or path != "/hooks/agent":
            return 404, "Not Found"
        if headers.get("Authorization") != f"Bearer {self.token}":
            return 401, "Unauthorized"
        said = json.loads(body)
        if not said.get("message"):
            return 400, {"ok": False, "error": "message required"}
        if ("channel" in said) != ("to" in said):
            return 400, {"ok": False, "error": "channel and to must be set together for hook delivery"}
        if said.get("channel", "telegram") != "telegram":
            return 400, {"ok": False, "error": "channel must be last|telegram"}
        if self.completion is None:
            return 502, {"ok": False, "error": "hook agent run failed before entering the agent runner", "runId": "run"}
        is_waiting = said.pop("waitForCompletion", False)
        run = headers.get("Idempotency-Key", str(len(self.runs))) + json.dumps(said, sort_keys=True)
        self.runs.setdefault(run, said)
        completion = {"completion": self.completion} if is_waiting else {}
        return 200, {"ok": True, "runId": f"run-{list(self.runs).index(run)}", **completion}
