"""How the process of a unit ends and what follows: restarts, limits, the way it is stopped."""

import math
import re
from typing import Any

from procclaw.interface.convert.conversion import STOP_SIGNALS, Fate, Note
from procclaw.interface.convert.durations import plain
from procclaw.interface.convert.section import Misfit
from procclaw.interface.convert.systemd_units import FOREVER, Setting, Unit, about, bytes_of, span_of

_KILL = re.compile(r"-?(/usr)?/bin/kill\s+-(s\s*)?(SIG)?(?P<signal>[A-Z0-9]+)\s+\$\{?MAINPID\}?")
_RESTARTS = {
    "no": "never",
    "always": "always",
    "on-success": "always",
    "on-failure": "on_failure",
    "on-abnormal": "on_failure",
    "on-watchdog": "on_failure",
    "on-abort": "on_failure",
}
_LIKE_OURS = frozenset({"no", "always", "on-failure"})
_NO_FAILURES = frozenset({"HUP", "INT", "TERM", "PIPE"})
"""Signals that systemd takes for a clean end of their own accord."""
_DEFAULT_STOP, _DEFAULT_PAUSE, _DEFAULT_INTERVAL, _DEFAULT_BURST = 90, 0.1, 10, 5
"""systemd's own: TimeoutStopSec, RestartSec, StartLimitIntervalSec in seconds; StartLimitBurst."""
_A_YEAR = 31_536_000
"""Seconds; as good as an endless grace period."""
_MOST_STEPS = 50


def signal_sent_by(setting: Setting) -> str | None:
    """The signal, if all that an ExecStop= does is to send one that a job can be stopped with."""
    found = _KILL.fullmatch(setting.value)
    return found["signal"] if found and found["signal"] in STOP_SIGNALS.values() else None


class Ending:
    """Of one unit, as fields; what is said about them gathers in `notes`."""

    def __init__(self, unit: Unit, kind: str, *, is_continuous: bool) -> None:
        self._unit = unit
        self._kind = kind
        self._is_continuous = is_continuous
        self.notes: list[Note] = []

    def fields(self) -> dict[str, Any]:
        """Raises ValueError, in words."""
        return self._retries() | self._limits() | self._shutdown()

    def _retries(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        codes = self._success_codes()
        if codes != [0]:
            found["success_exit_codes"] = codes
        policy = self._unit.one("Service", "Restart")
        word = policy.value if policy else "no"
        if word not in _RESTARTS:
            place = policy or Setting("", "", "", self._line, "")
            raise Misfit(place.line, f"Restart={word} is none of {', '.join(_RESTARTS)}", place.file)
        if policy and word not in _LIKE_OURS:
            is_any = word == "on-success"
            self._note(
                policy, Fate.CHANGED, f"is started again after {'every end' if is_any else 'failures of any kind'}"
            )
        if self._is_continuous:
            found["restart"] = _RESTARTS[word]
        elif word == "always":
            self._note(policy or Setting("", "", "", 0, ""), Fate.CHANGED, "it is tried again after a failure only")
        pauses, (burst, interval, said) = self._pauses(), self._start_limit()
        if word == "no":
            return found | {"retry": {"enabled": False}}
        # More than `burst` starts within `interval` are given up; with longer pauses that never happens.
        is_endless = interval <= 0 or pauses[0] * burst >= interval
        retry: dict[str, Any] = {"delays": pauses, "max_attempts": "unlimited" if is_endless else max(burst - 1, 0)}
        if self._is_continuous and not is_endless:
            retry["reset_after"] = plain(interval)
            says = f"is given up after {burst} failures, each within {plain(interval)} s of its start"
            if said is None:
                what = f"StartLimitBurst={burst}, systemd's own"
                self.notes.append(Note(self._line, what, Fate.CHANGED, says))
            else:
                self._note(said, Fate.CHANGED, says)
        return found | {"retry": retry}

    def _pauses(self) -> list[float | int]:
        first = self._seconds("RestartSec", _DEFAULT_PAUSE)
        steps, most = self._unit.last("Service", "RestartSteps"), self._seconds("RestartMaxDelaySec", FOREVER)
        first = min(first, _A_YEAR)
        if not steps or not steps.isdecimal() or not 0 < int(steps[:6]) < _MOST_STEPS or most == FOREVER or first <= 0:
            for name in ("RestartSteps", "RestartMaxDelaySec"):
                if setting := self._unit.one("Service", name):
                    self._note(setting, Fate.DROPPED, "the pauses stay what RestartSec= says")
            return [plain(first)]
        growth = math.pow(most / first, 1 / int(steps))
        return [plain(round(first * growth**step, 1)) for step in range(int(steps) + 1)]

    def _start_limit(self) -> tuple[int, float, Setting | None]:
        """How many starts there may be, in which time, and the setting that says so."""
        interval: float = _DEFAULT_INTERVAL
        burst = _DEFAULT_BURST
        said: Setting | None = None
        for section in ("Service", "Unit"):
            for name in ("StartLimitInterval", "StartLimitIntervalSec"):
                if setting := self._unit.one(section, name):
                    interval, said = span_of(setting), setting
            setting = self._unit.one(section, "StartLimitBurst")
            if setting is not None and setting.value.isdecimal():
                burst, said = int(setting.value[:6]), setting
        return burst, (_A_YEAR if interval == FOREVER else interval), said

    def _success_codes(self) -> list[int]:
        codes = {0}
        for setting in self._unit.all("Service", "SuccessExitStatus"):
            for word in setting.value.split():
                if word.isdecimal() and int(word[:4]) < 256:
                    codes.add(int(word[:4]))
                elif word.removeprefix("SIG") not in _NO_FAILURES:
                    self._note(setting, Fate.DROPPED, f'"{word}" is no number; write it into success_exit_codes')
        return sorted(codes)

    def _limits(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        longest = self._seconds("RuntimeMaxSec", FOREVER)
        start = self._seconds("TimeoutStartSec", self._seconds("TimeoutSec", FOREVER))
        if self._kind == "oneshot":
            longest = min(longest, start)
        elif setting := self._unit.one("Service", "TimeoutStartSec"):
            self._note(setting, Fate.DROPPED, "a start takes no time here")
        if 0 < longest < FOREVER:
            found["timeout"] = plain(longest)
        return found | self._resources()

    def _resources(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        memory = self._unit.one("Service", "MemoryMax") or self._unit.one("Service", "MemoryLimit")
        if memory is not None and "%" in memory.value:
            self._note(memory, Fate.DROPPED, "a share of the memory is no number of bytes")
        elif memory is not None and (size := bytes_of(memory.value)):
            found = {"max_memory_mb": plain(max(size / (1 << 20), 1)), "action": "kill"}
            self._note(memory, Fate.CHANGED, "is looked at every 30 s, not held by the kernel")
        quota = self._unit.one("Service", "CPUQuota")
        if quota is not None and re.fullmatch(r"\d{1,6}%", quota.value) and not found:
            found = {"max_cpu_percent": int(quota.value[:-1]), "action": "warn"}
            self._note(quota, Fate.CHANGED, "is told of, not enforced")
        elif quota is not None:
            says = "beside a limit of memory it would end the job, not slow it down" if found else "is no percentage"
            self._note(quota, Fate.DROPPED, says)
        return {"resources": found} if found else {}

    def _shutdown(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        stop = self._seconds("TimeoutStopSec", self._seconds("TimeoutSec", -1))
        if stop >= 0 or self._is_continuous:
            found["grace_period"] = plain(_DEFAULT_STOP if stop < 0 else min(stop, _A_YEAR))
            place = self._unit.one("Service", "TimeoutStopSec") or self._unit.one("Service", "TimeoutSec")
            if place is not None and stop == FOREVER:
                self._note(place, Fate.CHANGED, "a year is what a stop waits at most")
        signal = self._unit.one("Service", "KillSignal")
        sent = [name for each in self._unit.all("Service", "ExecStop") if (name := signal_sent_by(each))]
        name = signal.value.removeprefix("SIG") if signal else sent[0] if sent else ""
        if name in STOP_SIGNALS.values():
            found["signal"] = f"SIG{name}"
        elif signal is not None:
            self._note(signal, Fate.DROPPED, "is no signal a job is stopped with; it gets SIGTERM")
        mode = self._unit.one("Service", "KillMode")
        if mode is not None and mode.value != "control-group":
            self._note(mode, Fate.CHANGED, "a stop signals all processes of the job, and kills what is left of them")
            found |= {"leftovers": "keep"} if mode.value in ("process", "none") else {}
        for each in ("SendSIGKILL", "SendSIGHUP", "FinalKillSignal", "RestartKillSignal", "WatchdogSignal"):
            if setting := self._unit.one("Service", each):
                self._note(setting, Fate.DROPPED, "a stop is one signal, then SIGKILL")
        return {"shutdown": found} if found else {}

    def _note(self, setting: Setting, fate: Fate, says: str) -> None:
        self.notes.append(about(setting, fate, says))

    @property
    def _line(self) -> int:
        return self._unit.line_of("Service")

    def _seconds(self, name: str, default: float) -> float:
        setting = self._unit.one("Service", name)
        if setting is None:
            return default
        seconds = span_of(setting)
        # No timeout at all is written as 0 in the older style.
        return FOREVER if seconds == 0 and name.startswith("Timeout") else seconds
