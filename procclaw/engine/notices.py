"""An alert, or a digest of several, as it leaves: addressed to whom the declarations name now, in the form each takes.

A message for a chat or an agent is ProcClaw's own words and never holds what a job printed. References in addresses and
tokens are resolved here, at the last moment.
"""

import os
from collections.abc import Mapping
from typing import Any, assert_never

from procclaw.engine.launching import SHELL, command_environment, own_variables, resolved
from procclaw.engine.world import Secrets
from procclaw.model.alerts import Alert
from procclaw.model.clock import iso
from procclaw.model.document import document_hash
from procclaw.model.errors import ProcclawError
from procclaw.model.outside import Call, Hooks, Message, Notice
from procclaw.model.references import references_in
from procclaw.model.secret import Text
from procclaw.model.spec import AgentNotice, Channel, OpenclawPolicy, Spec
from procclaw.planning.bundles import Bundle

_TO_BE_DONE = "Look into it with the procclaw skill and say what you find; change nothing without being told to."
"""What OpenClaw's agent is asked beyond being told."""


def notice_of(bundle: Bundle, spec: Spec, home: str, secrets: Secrets) -> Notice:
    """The bundle, addressed to whom the declaration of its job names now. Raises ProcclawError when its address or the
    environment of its command cannot be made.
    """
    ways, body = spec.ways(bundle.alerts[0].job_id), _body(bundle, spec, home)
    notice = Notice(bundle.key, ways.webhook, _argv(ways.command), body)
    if ways.channels:
        openclaw = spec.config.openclaw
        notice = notice._replace(
            messages=tuple(_message(bundle, channel, body) for channel in ways.channels),
            call=_call(bundle, openclaw, secrets),
            fallback_webhook=openclaw.fallback.webhook,
            fallback_command=_argv(openclaw.fallback.command),
        )
    elif notice.command is None and not any(references_in(ways.webhook or "")):
        return notice
    base = command_environment(spec.config, secrets)

    def address(text: str | None) -> Text | None:
        return None if text is None else resolved(text, base, {}, secrets)

    fallback = notice.fallback_webhook
    return notice._replace(
        webhook=address(ways.webhook),
        fallback_webhook=address(None if fallback is None else str(fallback)),
        env=tuple((base | _told_to_commands(body)).items()),
    )


def _body(bundle: Bundle, spec: Spec, home: str) -> dict[str, Any]:
    """As JSON types. A digest is of no one job and has its alerts besides."""
    where = {"key": bundle.key, "home": home, "host": os.uname().nodename}
    if not bundle.is_digest:
        return _told(bundle.alerts[0], spec) | where
    return {
        "event": "digest",
        "job_id": None,
        "job_name": None,
        "run_id": None,
        "at": iso(bundle.alerts[-1].raised_at),
        "message": bundle.message,
        **where,
        "alerts": [_told(alert, spec) | {"key": alert.key} for alert in bundle.alerts],
    }


def _told(alert: Alert, spec: Spec) -> dict[str, Any]:
    job = spec.jobs.get(alert.job_id)
    return {
        "event": str(alert.kind),
        "job_id": alert.job_id,
        "job_name": alert.job_id if job is None else job.name,
        "run_id": alert.run_id,
        "at": iso(alert.raised_at),
        "message": alert.message,
    }


def _told_to_commands(body: Mapping[str, Any]) -> dict[str, Text]:
    """What a command finds in its environment."""
    env: dict[str, Text] = {var.name: var.value for var in own_variables(body["job_id"] or "", body["home"])}
    env |= {f"PROCCLAW_ALERT_{name.upper()}": body[name] for name in ("event", "message", "at", "key")}
    return env if body["run_id"] is None else env | {"PROCCLAW_RUN_ID": body["run_id"]}


def _argv(command: str | tuple[str, ...] | None) -> tuple[str, ...] | None:
    return (SHELL, "-c", command) if isinstance(command, str) else command


def _call(bundle: Bundle, policy: OpenclawPolicy, secrets: Secrets) -> Call | None:
    """What the agent is told. That its token cannot be had keeps nothing from people."""
    text = bundle.message if bundle.is_digest else f"ProcClaw: {bundle.message}"
    match policy.notify_agent:
        case AgentNotice.OFF:
            return None
        case AgentNotice.WAKE:
            return Call(text)
        case AgentNotice.AGENT:
            try:
                token = resolved(policy.hooks_token or "", {}, {}, secrets)
            except ProcclawError as error:
                return Call(text, trouble=str(error))
            return Call(f"{text}\n{_TO_BE_DONE}", Hooks(policy.hooks_url, token))
        case _:
            assert_never(policy.notify_agent)


def _message(bundle: Bundle, channel: Channel, body: Mapping[str, object]) -> Message:
    return Message(message_key(channel, (bundle.key, body["home"], body["host"])), *channel, bundle.message)


def message_key(channel: Channel, what: tuple[object, ...]) -> str:
    """Of a message; another home, which may have the same jobs, has other ones, and a phone number is not in it."""
    return f"procclaw:{document_hash((what, channel))[:32]}"
