"""What happened to a job, as a line between what the jobs print: of each end also what follows it."""

from datetime import datetime

from procclaw.interface.asking import how_it_ended
from procclaw.interface.console import duration, shown
from procclaw.model.clock import seconds_between
from procclaw.model.reasons import Reason
from procclaw.model.records import Event, Run, RunState

ENDED, HOLD_SET = "attempt ended", "hold set"


def of_event(event: Event, run: Run | None, now: datetime) -> str | None:
    """`run` is the one that the event is of, as it stands now; None: there is nothing to say to whoever watches."""
    fields = dict(event.fields)
    match event.kind:
        case "attempt started":
            return "started" if fields["attempt"] == "1" else "started again"
        case "attempt ended" if run is not None and run.state is RunState.STOPPED:
            return "stopped" + (f" (exit code {fields['code']})" if "code" in fields else "")
        case "attempt ended":
            return f"ended: {_how(fields)}{_what_follows(run, now)}"
        case "run finished" if fields["attempts"] == "0":
            return f"{fields['state']}: {shown(fields.get('detail') or _plain(fields.get('reason')))}"
        case "stop ordered" if fields["reason"] == Reason.HOME_STOPPED:
            return "stopping"
        case "stop ordered":
            return f"stopping: {shown(fields.get('detail') or _plain(fields.get('reason')))}"
        case "health changed":
            return fields["health"] + (f": {shown(fields['detail'])}" if "detail" in fields else "")
        case "limit passed":
            return shown(fields["detail"])
        case "hold set" | "hold lifted":
            by = f" by {shown(fields['by'])}" if "by" in fields else ""
            return f"{event.kind}{by}: {fields['hold']}"
        case "slot skipped" | "slot missed":
            return f"{event.kind} ({_plain(fields.get('reason'))})"
        case "job removed":
            return "no longer declared"
        case _:
            return None


def _how(fields: dict[str, str]) -> str:
    code = fields.get("code")
    return how_it_ended(
        {
            "detail": fields.get("detail", ""),
            "reason": fields.get("outcome", ""),
            "exit_code": None if code is None else int(code),
            "signal": None,
        }
    )


def _what_follows(run: Run | None, now: datetime) -> str:
    if run is None:
        return ""
    if run.state is RunState.RETRYING:
        left = seconds_between(now, run.not_before_at)
        return f"; next attempt in {duration(left)}" if left > 0 else "; starts again"
    if run.is_active:
        return "; starts again"
    if run.state is RunState.FAILED:
        return f"; it has failed for good: {_plain(run.reason)}"
    return f"; {run.state}"


def _plain(reason: object) -> str:
    return str(reason or "").replace("_", " ")
