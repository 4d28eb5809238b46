"""Services of docker compose as jobs that run `docker compose up` for one service, in the foreground.

The container stays what the file says: image, build, ports, networks, names, volumes, secrets and variables are left to
docker compose, which reads the file at each start. Rewriting them as options of `docker run` would lose the network
that services find one another on. What ProcClaw takes over is when a service runs: order, restarts, health, stopping,
logs. A check of health stays with docker too, and is asked for.
"""

import os
import re
import shlex
from typing import Any

from procclaw.interface.convert.conversion import Conversion, Fate, Ids, Imported, Note, Source, Unconvertible
from procclaw.interface.convert.durations import go_seconds, plain
from procclaw.interface.convert.section import Misfit, Section, document, looks_like_mapping, without_refused
from procclaw.model.tree import Entries, Items

_CONDITIONS = {
    "service_started": "after_start",
    "service_healthy": "after_healthy",
    "service_completed_successfully": "after_complete",
}
_OF_THE_FILE = frozenset({"version", "name", "networks", "volumes", "secrets", "configs", "models"})
_OF_THE_CONTAINER = frozenset(
    re.findall(
        r"\w+",
        """
    annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs container_name
    cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset credential_spec
    develop device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint env_file environment expose
    external_links extra_hosts gpus group_add hostname image init ipc isolation label_file labels links logging
    mac_address mem_limit mem_reservation mem_swappiness memswap_limit models network_mode networks
    oom_kill_disable oom_score_adj pid pids_limit platform ports post_start pre_stop privileged provider
    pull_policy read_only runtime secrets security_opt shm_size stdin_open stop_signal storage_opt sysctls tmpfs
    tty ulimits use_api_socket user userns_mode uts volumes volumes_from working_dir
""",
    )
)
_READ_HERE = frozenset(
    {"restart", "deploy", "scale", "profiles", "depends_on", "healthcheck", "stop_grace_period", "extends"}
)
"""What a job is made of; all else of a service is docker compose's alone."""
_FOUND_BY_ITSELF = frozenset({"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"})
"""Files that docker compose puts an override on top of."""
_OVERRIDES = (
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)(?::?-([^{}]*))?\}|\$([A-Za-z_]\w*)")
_ASSIGNED = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$", re.MULTILINE)
_STOP_SECONDS, _INTERVAL, _RETRIES, _PROBE_SECONDS = 10, 30, 3, 30
"""docker's own: stop_grace_period; of a healthcheck interval, retries, timeout."""
_SPARE_SECONDS = 10
"""For docker compose itself, when it stops a container."""


def looks_like(text: str, kind: str) -> bool:
    return looks_like_mapping(text, "services")


def read(source: Source, kind: str, ids: Ids) -> Conversion:
    root = document(source)
    if not isinstance(root, Entries):
        raise Unconvertible(root.mark[0], "is no mapping with services")
    if source.folder is None:
        raise Unconvertible(0, "docker compose has to find the file again: name it")
    try:
        return _File(source, Section("", root), ids).conversion()
    except Misfit as error:
        raise Unconvertible(error.line, str(error)) from None


class _File:
    """A compose file, and what its services share."""

    def __init__(self, source: Source, top: Section, ids: Ids) -> None:
        self._top = top
        self._ids = ids
        self._source = source
        self.folder = source.folder
        self._override = self._find_override()
        files = [os.path.basename(source.path), *([self._override] if self._override else [])]
        self.compose = ["docker", "compose", *(word for name in files for word in ("-f", name))]
        self.variables: dict[str, str] = dict(_ASSIGNED.findall(source.read(".env") or ""))
        self.profiles = frozenset(re.findall(r"[^\s,\"']+", self.variables.get("COMPOSE_PROFILES", "")))
        """Those that are switched on."""
        self.ids: dict[str, str] = {}
        self.asked_for_health: set[str] = set()
        """Services that another one waits for until docker finds them healthy."""

    def conversion(self) -> Conversion:
        services = self._top.section("services")
        if services is None or not services.keys:
            raise Misfit(self._top.line, "has no services")
        notes = self._notes()
        others = self._services_of_override(notes)
        parts: list[tuple[Section, tuple[str, ...], str]] = [(services, services.keys, "")]
        if others is not None:
            added = tuple(name for name in others.keys if name not in services.keys)
            parts.append((others, added, self._override or ""))
        self.ids = {name: self._ids.of(name) for _, names, _ in parts for name in names}
        jobs: list[Imported] = []
        read: list[_Service] = []
        for within, names, file in parts:
            for name in names:
                try:
                    read.append(_Service(self, within.child(name), file))
                except Misfit as error:
                    notes.append(Note(error.line, name, Fate.REFUSED, str(error), self.place(file)))
        for service in read:
            try:
                jobs.append(service.imported())
            except Misfit as error:
                notes.append(Note(error.line, service.name, Fate.REFUSED, str(error), self.place(service.file)))
        if any(job.fields["restart"] != "never" for job in jobs):
            says = "is ProcClaw's, after 1 s and longer; docker starts a container again too, unless its restart is no"
            notes.append(Note(0, "restart", Fate.CHANGED, says))
        return Conversion(tuple(without_refused(jobs, set(self.ids.values()))), tuple(notes))

    def _notes(self) -> list[Note]:
        says = "stay with docker compose, which reads this file at each start: leave it where it is"
        notes = [Note(0, "image, ports, networks, volumes and all else of a container", Fate.KEPT, says)]
        says = (
            "is a job that runs docker compose in the foreground; without restart it runs with each start of the daemon"
        )
        notes.append(Note(0, "a service", Fate.CHANGED, says))
        if self._top.take("include") is not None:
            says = "services of other files are not converted: name those files too"
            notes.append(Note(self._top.line_of("include"), "include", Fate.DROPPED, says))
        for key in _OF_THE_FILE:
            self._top.take(key)
        if "COMPOSE_FILE" in self.variables:
            says = f"of .env is not followed: the jobs name {' and '.join(self.compose[3::2])}"
            notes.append(Note(0, "COMPOSE_FILE", Fate.CHANGED, says))
        return [*notes, *self._top.dropped("docker compose does not know it")]

    def _find_override(self) -> str | None:
        if os.path.basename(self._source.path) not in _FOUND_BY_ITSELF:
            return None
        return next((name for name in _OVERRIDES if self._source.read(name) is not None), None)

    def _services_of_override(self, notes: list[Note]) -> Section | None:
        """The services of the override, and a note of what it changes of those that the file has itself."""
        if self._override is None:
            return None
        place = self.place(self._override)
        try:
            root = document(self._source._replace(text=self._source.read(self._override) or ""))
            services = Section("", root).section("services") if isinstance(root, Entries) else None
        except (Unconvertible, Misfit) as error:
            raise Misfit(0, f"{place}:{error.line}: {error}") from None
        own = self._top.child("services").keys
        says = f"is not seen here: write it into {os.path.basename(self._source.path)}"
        for service in () if services is None else (services.child(name) for name in services.keys if name in own):
            keys = (key for key in service.keys if key in _READ_HERE)
            notes += [Note(service.line_of(key), f"{service.name}.{key}", Fate.DROPPED, says, place) for key in keys]
        return services

    def place(self, file: str) -> str:
        """A file that lies beside this one, as the user would name it; empty stays so."""
        return os.path.join(os.path.dirname(self._source.path), file) if file else ""

    def filled(self, text: str, line: int) -> str:
        """With its variables, as far as the file and .env tell them. Raises Misfit."""

        def meant(found: re.Match[str]) -> str:
            name: str = found[1] or found[3]
            if name in self.variables:
                return self.variables[name].strip("\"'")
            if found[2] is None:
                raise Misfit(line, f'"{found[0]}" is not in .env: write what it stands for')
            return str(found[2])

        return _VARIABLE.sub(meant, text)


class _Service:
    """One service of the file."""

    def __init__(self, whole: _File, service: Section, file: str) -> None:
        self._file = whole
        self._service = service
        self.name = service.name
        self.file = file
        """Where it stands, if that is the override."""
        self._notes: list[Note] = []
        self._is_wanted = True
        self._depends = self._dependencies()

    def imported(self) -> Imported:
        service = self._service
        fields: dict[str, Any] = {"cmd": self._command(), **self._restart()}
        if profiles := service.words("profiles"):
            self._profiles(profiles)
        fields |= {} if self._is_wanted else {"enabled": False}
        fields["cwd"] = self._file.folder
        stop = service.text("stop_grace_period")
        grace = self._seconds(stop, "stop_grace_period") if stop else _STOP_SECONDS
        fields["shutdown"] = {"grace_period": plain(grace + _SPARE_SECONDS)}
        fields |= self._health()
        if self._depends:
            fields["depends_on"] = self._depends
        if service.take("extends") is not None:
            says = "its restart, healthcheck and depends_on from there are not seen here"
            self._note("extends", Fate.CHANGED, says)
        for key in _OF_THE_CONTAINER:
            service.take(key)
        self._notes += service.dropped("docker compose does not know it")
        place = self._file.place(self.file)
        notes = tuple(note._replace(file=place) for note in self._notes)
        return Imported(self._file.ids[self.name], fields, service.line, notes, file=place)

    def _profiles(self, names: list[str]) -> None:
        switched_on = [name for name in names if {name, "*"} & self._file.profiles]
        if switched_on:
            self._note("profiles", Fate.KEPT, f"{', '.join(switched_on)}: is switched on by COMPOSE_PROFILES of .env")
            return
        self._is_wanted = False
        self._note("profiles", Fate.CHANGED, f"{', '.join(names)}: runs when it is asked to, or enabled: true")

    def _note(self, key: str, fate: Fate, says: str) -> None:
        self._notes.append(Note(self._service.line_of(key), key, fate, says))

    def _text(self, section: Section, key: str) -> str | None:
        text = section.text(key)
        return None if text is None else self._file.filled(text, section.line_of(key))

    def _seconds(self, text: str, key: str, section: Section | None = None) -> float:
        line = (section or self._service).line_of(key)
        try:
            return go_seconds(self._file.filled(text, line))
        except Misfit:
            raise
        except ValueError as error:
            raise Misfit(line, f"{key}: {error}") from None

    def _command(self) -> list[str]:
        words = [*self._file.compose, "up", "--no-deps", "--no-log-prefix"]
        scale = self._text(self._service, "scale")
        deploy = self._service.section("deploy")
        replicas = (self._text(deploy, "replicas") if deploy else None) or scale or "1"
        if not replicas.isdecimal():
            raise Misfit(self._service.line, f'replicas: "{replicas}" is no whole number')
        if int(replicas[:6]) == 0:
            self._is_wanted = False
        elif int(replicas[:6]) > 1:
            words += ["--scale", f"{self.name}={replicas}"]
            says = "are one job: all of them are stopped when one ends"
            self._notes.append(Note(self._service.line, f"{replicas} replicas", Fate.CHANGED, says))
        return [*words, "--exit-code-from", self.name, self.name]

    # --- when ---

    def _restart(self) -> dict[str, Any]:
        text, tries, pause = self._policy()
        word = _RESTARTS.get(text)
        if word is None:
            raise Misfit(self._service.line_of("restart"), f'restart: "{text}" is none of {", ".join(_RESTARTS)}')
        found: dict[str, Any] = {"type": "continuous", "restart": word}
        if word == "never":
            return found | {"retry": {"enabled": False}}
        pauses = {"preset": "exponential"} if pause is None else {"delays": [plain(pause)]}
        return found | {"retry": {**pauses, "max_attempts": int(tries) if tries else "unlimited"}}

    def _policy(self) -> tuple[str, str, float | None]:
        """Its word, how often at most, and the pause if one is given."""
        if (given := self._text(self._service, "restart")) is not None:
            word, _, tries = given.partition(":")
            return {"false": "no", "off": "no"}.get(word, word), tries[:6] if tries.isdecimal() else "", None
        deploy = self._service.section("deploy")
        policy = deploy.section("restart_policy") if deploy else None
        if policy is None:
            return "no", "", None
        tries, delay = policy.text("max_attempts") or "", policy.text("delay")
        pause = self._seconds(delay, "delay", policy) if delay else None
        return policy.text("condition") or "any", tries[:6] if tries.isdecimal() else "", pause

    def _dependencies(self) -> list[dict[str, str]]:
        if isinstance(self._service.take("depends_on"), Items):
            wanted = [(name, "service_started", self._service.line) for name in self._service.texts("depends_on") or ()]
        else:
            wanted = [self._dependency(other) for other in self._service.sections("depends_on")]
        found = []
        for name, condition, line in wanted:
            if name not in self._file.ids:
                raise Misfit(line, f"depends_on: there is no service {name}")
            if condition not in _CONDITIONS:
                raise Misfit(line, f'condition: "{condition}" is none of {", ".join(_CONDITIONS)}')
            if condition == "service_healthy":
                self._file.asked_for_health.add(name)
            found.append({"job": self._file.ids[name], "condition": _CONDITIONS[condition]})
        return found

    def _dependency(self, other: Section) -> tuple[str, str, int]:
        if other.flag("restart"):
            says = f"is not started again when {other.name} is"
            self._notes.append(Note(other.line_of("restart"), f"depends_on.{other.name}.restart", Fate.DROPPED, says))
        if other.flag("required") is False:
            says = f"waits for {other.name} all the same"
            self._notes.append(Note(other.line_of("required"), f"depends_on.{other.name}.required", Fate.CHANGED, says))
        return other.name, other.text("condition") or "service_started", other.line

    # --- health ---

    def _health(self) -> dict[str, Any]:
        check = self._service.section("healthcheck")
        is_off = check is not None and (check.flag("disable") or _first(check) == "NONE")
        if is_off or (check is None and self.name not in self._file.asked_for_health):
            return {}
        interval, start, timeout = (
            self._seconds(text, key, check) if check and (text := check.text(key)) else default
            for key, default in (("interval", _INTERVAL), ("start_period", 0), ("timeout", _PROBE_SECONDS))
        )
        retries = (check.number("retries") if check else None) or _RETRIES
        if check is not None:
            check.take("start_interval")
            self._notes += check.dropped("docker compose does not know it", prefix="healthcheck.")
        compose = shlex.join([*self._file.compose, "ps", "-q", self.name])
        found = {
            "type": "exec",
            "cmd": f"docker inspect -f '{{{{.State.Health.Status}}}}' $({compose}) | grep -qx healthy",
            "interval": plain(max(min(interval, _INTERVAL), 1)),
            # Until docker itself would call it unhealthy.
            "start_period": plain(start + retries * (interval + timeout)),
            "failures": 1,
        }
        says = "docker makes the check; ProcClaw asks it what it found"
        self._notes.append(Note(self._service.line_of("healthcheck"), "healthcheck", Fate.KEPT, says))
        return {"health_check": found}


_RESTARTS = {
    "no": "never",
    "none": "never",
    "always": "always",
    "any": "always",
    "unless-stopped": "always",
    "on-failure": "on_failure",
}


def _first(check: Section) -> str | None:
    words = check.words("test")
    return words[0] if words else None
