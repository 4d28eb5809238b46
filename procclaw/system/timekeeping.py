"""Whether somebody sets the machine's clock right: what `timedatectl` says of it, where there is one."""

from procclaw.system.processes import run_command

_ASK_SECONDS = 5.0


def is_synchronized() -> bool | None:
    """None: nobody tells, as in a container or without systemd."""
    answer = run_command(["timedatectl", "show", "--property=NTPSynchronized"], _ASK_SECONDS)
    word = answer.stdout.decode(errors="replace").strip().removeprefix("NTPSynchronized=")
    return {"yes": True, "no": False}.get(word) if answer.exit_code == 0 else None
