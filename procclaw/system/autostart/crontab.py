"""One line in the user's crontab, which has `reconcile` do once a minute what a daemon does all the time.

Ours is known by the words that end it. All other lines are written back as they were read, byte for byte.
"""

import shlex

from procclaw.model.errors import ProcclawError
from procclaw.system.autostart import Entry
from procclaw.system.processes import run_command

_ASK_SECONDS = 30.0
_MOST_BYTES = 1 << 19
"""Well below what is kept of a command's output: what was cut off would be lost when it is written back."""


class Crontab:
    def __init__(self, entry: Entry) -> None:
        self._mark = f" # by procclaw service install --cron{f' ({entry.suffix})' if entry.suffix else ''}".encode()
        command = shlex.join((*entry.program, "--home", entry.home, "reconcile"))
        # To cron a percent sign is the end of the line, whatever quotes are around it.
        self.line = b"* * * * * " + command.replace("%", "\\%").encode() + self._mark

    def installed(self) -> bytes | None:
        """Our line as it stands there; None when there is none. Raises ProcclawError where there is no cron."""
        return next(iter(self._ours(self._read())), None)

    def text(self) -> str:
        """All of it. Raises ProcclawError where there is no cron."""
        return self._read().decode(errors="replace")

    def install(self) -> bool:
        """False when all was so already. Raises ProcclawError."""
        before = self._read()
        if self._ours(before) == [self.line]:
            return False
        others = self._others(before)
        self._write(others + (b"" if others.endswith(b"\n") or not others else b"\n") + self.line + b"\n")
        return True

    def remove(self) -> bool:
        """False when there was nothing of ours. Raises ProcclawError."""
        before = self._read()
        if not self._ours(before):
            return False
        self._write(self._others(before))
        return True

    def _ours(self, text: bytes) -> list[bytes]:
        return [line.rstrip(b"\n") for line in text.splitlines(keepends=True) if self._is_ours(line)]

    def _others(self, text: bytes) -> bytes:
        return b"".join(line for line in text.splitlines(keepends=True) if not self._is_ours(line))

    def _is_ours(self, line: bytes) -> bool:
        return line.rstrip().endswith(self._mark) and not line.lstrip().startswith(b"#")

    def _read(self) -> bytes:
        answer = run_command(["crontab", "-l"], _ASK_SECONDS)
        if answer.exit_code == 0:
            if len(answer.stdout) >= _MOST_BYTES:
                raise ProcclawError(f"the crontab is longer than {_MOST_BYTES} bytes: left alone")
            return answer.stdout
        said = " ".join(answer.stderr.decode(errors="replace").split())
        if "no crontab for" in said:
            return b""
        if answer.exit_code == 127:
            raise ProcclawError("there is no crontab command; is cron installed?")
        raise ProcclawError(f"crontab -l: {said or f'exit code {answer.exit_code}'}")

    def _write(self, text: bytes) -> None:
        argv = ["crontab", "-"] if text else ["crontab", "-r"]
        answer = run_command(argv, _ASK_SECONDS, stdin=text or None)
        if answer.exit_code != 0:
            said = " ".join(answer.stderr.decode(errors="replace").split())
            raise ProcclawError(f"{' '.join(argv)}: {said or f'exit code {answer.exit_code}'}")
