"""systemd's .service and .timer units: a service is a job, and with a timer it is one that is due at times.

A timer and its service are one job, whichever of them is named; what is named twice is converted once. Services that
are converted together wait for one another as their units say.
"""

import os
import re
from typing import Any

from procclaw.interface.convert.conversion import Conversion, Fate, Ids, Imported, Note, Source, Unconvertible
from procclaw.interface.convert.durations import plain
from procclaw.interface.convert.section import Misfit
from procclaw.interface.convert.systemd_calendar import Calendar, read_calendar
from procclaw.interface.convert.systemd_service import Service
from procclaw.interface.convert.systemd_units import FOREVER, Setting, Unit, base_name, read_unit, shown, span_of

_USERS_OWN = re.compile(r"(.*/)?(\.config/systemd/user|systemd/user)/[^/]+|.*/\.local/share/systemd/user/[^/]+")
_OF_A_USER = re.compile(r"^\s*WantedBy\s*=\s*default\.target\s*$", re.MULTILINE)
_A_YEAR = 31_536_000
"""Seconds."""
_PERIODS = ("OnUnitActiveSec", "OnUnitInactiveSec")
_WANTED = ("WantedBy", "RequiredBy", "UpheldBy")
_ONCE = ("OnBootSec", "OnStartupSec", "OnActiveSec")


def looks_like(text: str, kind: str) -> bool:
    return re.search(r"^\[(Service|Timer)\]\s*$", text, re.MULTILINE) is not None


def read(source: Source, kind: str, ids: Ids) -> Conversion:
    name = base_name(source.path)
    if not name.endswith((".service", ".timer")):
        ending = ".timer" if re.search(r"^\[Timer\]", source.text, re.MULTILINE) else ".service"
        if "." in name and name.rpartition(".")[2] in _OTHER_UNITS:
            raise Unconvertible(1, f"a .{name.rpartition('.')[2]} unit has no counterpart here")
        name = f"{name.rpartition('.')[0] or name}{ending}" if source.folder is not None else f"job{ending}"
    unit = read_unit(source, name, source.text)
    try:
        found = _Reading(source, unit, ids).conversion()
    except Misfit as error:
        found = Conversion((), (Note(error.line, unit.name, Fate.REFUSED, str(error), error.file),))
    return _placed(found, os.path.dirname(source.path))


def _placed(found: Conversion, folder: str) -> Conversion:
    """With files named as the user would name them."""

    def placed(notes: tuple[Note, ...]) -> tuple[Note, ...]:
        return tuple(note._replace(file=os.path.join(folder, note.file)) if note.file else note for note in notes)

    jobs = [job._replace(notes=placed(job.notes)) for job in found.jobs]
    jobs = [job._replace(file=os.path.join(folder, job.file)) if job.file else job for job in jobs]
    return found._replace(jobs=tuple(jobs), notes=placed(found.notes))


_OTHER_UNITS = frozenset({"socket", "path", "target", "mount", "automount", "swap", "slice", "scope", "device"})


class _Reading:
    """One file, with the unit that belongs to it."""

    def __init__(self, source: Source, unit: Unit, ids: Ids) -> None:
        self._source = source
        self._unit = unit
        self._ids = ids

    def conversion(self) -> Conversion:
        if self._unit.name.endswith(".timer"):
            wanted = self._unit.last("Timer", "Unit") or f"{self._unit.stem}.service"
            service = self._beside(wanted)
            if service is None:
                raise Misfit(self._unit.line_of("Timer"), f"its {wanted} is not beside it")
            return self._job(service, self._unit)
        timers = {timer: path for path in self._source.also if (timer := self._timer_of(path)) is not None}
        if timers:
            good = [name for name, path in timers.items() if self._is_convertible(path)]
            if not good:
                says = f"is what {', '.join(timers)} starts, which is refused"
                return Conversion((), (Note(0, self._unit.name, Fate.REFUSED, says),))
            says = f"is what {', '.join(good)} starts, and stands there"
            return Conversion((), (Note(0, self._unit.name, Fate.KEPT, says),))
        return self._job(self._unit, self._beside(f"{self._unit.stem}.timer"))

    def _timer_of(self, path: str) -> str | None:
        """The name of the timer at that path, if it starts this unit."""
        name = base_name(path)
        text = self._source.read(os.path.abspath(path)) if name.endswith(".timer") else None
        if text is None:
            return None
        started = read_unit(self._source, name, text).last("Timer", "Unit") or name.removesuffix(".timer") + ".service"
        return name if started == self._unit.name else None

    def _is_convertible(self, path: str) -> bool:
        """Whether the timer at that path becomes a job."""
        folder, name = os.path.split(os.path.abspath(path))
        beside = self._source._replace(
            path=path,
            read=lambda other: self._source.read(os.path.join(folder, other)),
            find=lambda pattern: self._source.find(os.path.join(folder, pattern)),
        )
        try:
            unit = read_unit(beside, name, beside.read(name) or "")
            return bool(_Reading(beside, unit, Ids()).conversion().jobs)
        except (Misfit, Unconvertible):
            return False

    def _beside(self, name: str) -> Unit | None:
        """The unit of that name, or the template it is an instance of."""
        template = re.sub(r"@[^.]+\.", "@.", name)
        for each in dict.fromkeys((name, template)):
            text = None if "/" in each else self._source.read(each)
            if text is not None:
                return read_unit(self._source, name, text)
        return None

    def _job(self, unit: Unit, timer: Unit | None) -> Conversion:
        line = unit.line_of("Service")
        if not unit.has("Service"):
            raise Misfit(1, "has no [Service] section")
        if unit.instance == "":
            raise Misfit(line, f"is a template: name an instance, as a copy called {unit.stem}NAME.service")
        where = "" if unit is self._unit else unit.name
        kind = unit.last("Service", "Type") or "simple"
        if kind == "forking":
            says = "puts itself into the background, where nobody can watch it; let it stay in front, with Type=exec"
            raise Misfit(_setting(unit, "Type").line, f"Type=forking: {says}", where)
        is_user = unit.last("Service", "User") is None and self._is_a_users(unit)
        notes: list[Note] = []
        when = self._when(unit, timer, kind, notes)
        service = Service(unit, is_user=is_user, is_continuous=when["type"] == "continuous" and kind != "oneshot")
        try:
            fields = service.fields()
        except Misfit as error:
            raise Misfit(error.line, str(error), error.file or where) from None
        if kind == "oneshot" and when["type"] == "continuous":
            fields = {**fields, "restart": "never", "retry": {"enabled": False}}
        if kind in ("notify", "notify-reload", "dbus") and when["type"] == "continuous":
            says = "counts as running once it was started; nobody waits until it says so"
            service.note(_setting(unit, "Type"), Fate.CHANGED, says)
        order = [field for field in ("description", "cmd") if field in fields]
        fields = {field: fields[field] for field in order} | when | {k: v for k, v in fields.items() if k not in order}
        fields |= service.rest(self._neighbour)
        notes += service.notes
        if timer is not None:
            notes += _rest_of(timer, "" if timer is self._unit else timer.name)
        if where:
            notes = [note._replace(file=note.file or where) if note in service.notes else note for note in notes]
        comments = [each.value for each in unit.all("Unit", "Documentation")]
        job = Imported(self._ids.of(unit.stem), fields, line, tuple(notes), tuple(comments), where)
        return Conversion((job,), _about_all(when))

    def _is_a_users(self, unit: Unit) -> bool:
        """Whether a user's manager runs it, going by where it lies and by what it or those named with it belong to."""
        if unit.last("Install", "WantedBy") == "default.target" or _USERS_OWN.fullmatch(self._source.path):
            return True
        texts = (self._source.read(os.path.abspath(path)) for path in self._source.also)
        return any(text is not None and _OF_A_USER.search(text) for text in texts)

    def _neighbour(self, name: str) -> str | None:
        for path in self._source.also:
            if base_name(path) == name and name.endswith(".service"):
                text = self._source.read(os.path.abspath(path))
                kind = read_unit(self._source, name, text or "").last("Service", "Type")
                return "after_complete" if kind == "oneshot" else "after_start"
        return None

    # --- when it runs ---

    def _when(self, unit: Unit, timer: Unit | None, kind: str, notes: list[Note]) -> dict[str, Any]:
        installed = [unit.all("Install", each) for each in _WANTED]
        if timer is not None:
            says = "runs when its timer is due, not with each boot"
            notes += [Note(each.line, shown(each), Fate.DROPPED, says) for found in installed for each in found]
            due = _due(timer, "" if timer is self._unit else timer.name, notes)
            return due | _switched_on(timer, "" if timer is self._unit else timer.name, notes)
        if kind != "oneshot":
            if any(installed):
                return {"type": "continuous"}
            says = "nothing starts it by itself, as there; without enabled: false it is kept running"
            notes.append(Note(unit.line_of("Service"), "no [Install]", Fate.CHANGED, says))
            return {"type": "continuous", "enabled": False}
        if not any(installed):
            notes.append(Note(unit.line_of("Service"), "no [Install]", Fate.KEPT, "runs when it is asked to"))
            return {"type": "manual"}
        says = "runs with each start of the daemon, not with each boot, and again after a reboot that interrupted it"
        [first, *_] = [setting for found in installed for setting in found]
        notes.append(Note(first.line, f"Type=oneshot, {shown(first)}", Fate.CHANGED, says))
        return {"type": "continuous"}


def _due(timer: Unit, file: str, notes: list[Note]) -> dict[str, Any]:
    """The schedule of a timer. Raises Misfit."""
    try:
        found = _times(timer, file, notes) | _leeway(timer, file, notes)
    except Misfit as error:
        raise Misfit(error.line, str(error), error.file or file) from None
    return found


def _switched_on(timer: Unit, file: str, notes: list[Note]) -> dict[str, Any]:
    if any(timer.all("Install", each) for each in _WANTED):
        return {}
    says = "nothing starts this timer by itself, as there; without enabled: false the job is due at its times"
    notes.append(Note(timer.line_of("Timer"), "no WantedBy=", Fate.CHANGED, says, file))
    return {"enabled": False}


def _times(timer: Unit, file: str, notes: list[Note]) -> dict[str, Any]:
    calendars = timer.all("Timer", "OnCalendar")
    periods = [each for name in _PERIODS for each in timer.all("Timer", name)]
    once = [each for name in _ONCE for each in timer.all("Timer", name)]
    if calendars:
        found = _from_calendars(calendars)
        others = [*periods, *once]
    elif periods:
        *others, period = [*once, *periods]
        found = {"type": "scheduled", "schedule": f"@every {_whole(period)}s"}
        says = "is counted by the clock, from midnight UTC on 1 January 1970; not from its last start or end"
        notes.append(Note(period.line, shown(period), Fate.CHANGED, says, file))
    else:
        what = shown(once[0]) if once else "it has no time"
        line = once[0].line if once else timer.line_of("Timer")
        raise Misfit(line, f"{what}: a time that is counted from a boot is none that a schedule can say")
    says = "the other times of the timer stand"
    notes += [Note(each.line, shown(each), Fate.DROPPED, says, file) for each in others]
    return found


def _from_calendars(settings: list[Setting]) -> dict[str, Any]:
    read: list[Calendar] = []
    for setting in settings:
        try:
            read.append(read_calendar(setting.value))
        except ValueError as error:
            raise Misfit(setting.line, str(error), setting.file) from None
    last = settings[-1]
    zones = {each.zone for each in read}
    if len(zones) > 1:
        raise Misfit(last.line, "OnCalendar= in several zones: a job has one", last.file)
    zone = {"timezone": zone} if (zone := zones.pop()) else {}
    moments = [each.run_at for each in read if each.run_at is not None]
    schedules = [each.schedule for each in read if each.schedule is not None]
    if moments and (len(moments) > 1 or schedules):
        raise Misfit(last.line, "OnCalendar= with a date and with other times: a job has one or the other", last.file)
    if moments:
        return {"type": "oneshot", "run_at": moments[0], **zone}
    return {"type": "scheduled", "schedule": schedules[0] if len(schedules) == 1 else schedules, **zone}


def _leeway(timer: Unit, file: str, notes: list[Note]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    delay = timer.one("Timer", "RandomizedDelaySec")
    if delay is not None and 0 < (seconds := span_of(delay)) < FOREVER:
        found["jitter"] = plain(seconds)
        if not timer.flag("Timer", "FixedRandomDelay"):
            notes.append(Note(delay.line, shown(delay), Fate.CHANGED, "is drawn once for the job, not each time", file))
    timer.flag("Timer", "FixedRandomDelay")
    found["catch_up"] = {"policy": "none"}
    persistent = timer.one("Timer", "Persistent")
    if persistent is not None and timer.flag("Timer", "Persistent"):
        found["catch_up"] = {"policy": "latest", "within": _A_YEAR}
        says = "the latest missed time is made up for, for a year"
        notes.append(Note(persistent.line, shown(persistent), Fate.KEPT, says, file))
    return found


def _whole(setting: Setting) -> int:
    seconds = span_of(setting)
    if seconds == FOREVER or seconds < 1 or seconds != int(seconds):
        raise Misfit(setting.line, f"{shown(setting)}: a period is a whole number of seconds", setting.file)
    return int(seconds)


def _rest_of(timer: Unit, file: str) -> list[Note]:
    """What nobody asked for of a timer."""
    notes = []
    for name in ("Description", "Documentation"):
        timer.all("Unit", name)
    timer.all("Timer", "Unit")
    for setting in timer.left():
        says = "it is due on the second" if setting.name == "AccuracySec" else "has no counterpart here"
        fate = Fate.KEPT if setting.name == "AccuracySec" else Fate.DROPPED
        notes.append(Note(setting.line, shown(setting), fate, says, setting.file or file))
    return notes


def _about_all(when: dict[str, Any]) -> tuple[Note, ...]:
    notes = [
        Note(0, "PATH of every unit", Fate.CHANGED, "is that of procclaw.yaml, as is the rest of what a job finds")
    ]
    if when.get("timezone") != "UTC" and any(map(_is_time_of_day, _lines(when))):
        says = "runs once, right after a clock change that leaves it out; systemd skips it that day"
        notes.append(Note(0, "a time of day", Fate.CHANGED, says))
    return tuple(notes)


def _lines(when: dict[str, Any]) -> list[str]:
    schedule = when.get("schedule", [])
    return [schedule] if isinstance(schedule, str) else schedule


def _is_time_of_day(line: str) -> bool:
    """Whether our own rule for clock changes makes up for it."""
    return not any(field.startswith(("*", "@")) for field in line.split()[:2])


def _setting(unit: Unit, name: str) -> Setting:
    return unit.one("Service", name) or Setting("Service", name, "", unit.line_of("Service"), "")
