"""Manifests for Kubernetes: where those go who outgrow one machine.

What stays up is a Deployment, what comes round a CronJob, everything else a Job that waits to be let go; a workflow is
a template of Argo Workflows. Everything the commands take, programs and files, has to be in the image or mounted.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

from procclaw.interface.convert.argo import workflow_template
from procclaw.interface.convert.containers import PLACEHOLDER, SECRET, Object, container, probes, secret_names
from procclaw.interface.convert.conversion import Fate, Note
from procclaw.interface.convert.jobsfile import dumped
from procclaw.interface.convert.leaving import Exported, File, Leaving, Left, Telling, Unexportable, gathered
from procclaw.interface.convert.times import Times, times_of, weekdays
from procclaw.model.spec import CatchUpPolicy, JobSpec, JobType, Leftovers, Overlap, Restart

_LONGEST_NAME = 52
"""Of a CronJob, whose Jobs get eleven characters more."""
_NO_NAME = re.compile(r"[^a-z0-9]+")
_ENDLESS = 2**31 - 1
_LEAST_DEADLINE_SECONDS = 60
"""The controller looks every ten seconds; with much less than a minute a busy one starts nothing."""
_MOST_KEPT = 10
"""Finished Jobs, each of which is an object of the cluster's."""
_SIGTERM = 15
_LOST = {
    "umask": "files get the mode that the image's programs give them",
    "nice": "containers have shares of the CPU instead: resources.requests",
    "jitter": "a CronJob starts when it is due",
    "timeout": "a Deployment's pods may run for ever",
    "concurrency": "every Job is one pod",
    "success_exit_codes": "only 0 is success",
    "alerts": "nobody is told: that is for what watches the cluster",
    "expect": "nobody watches for what did not happen: that is for what watches the cluster",
    "trigger": "a controller that creates the Job is to be had from others (Argo Events, say)",
    "queue": "nothing keeps its jobs from running at one time",
    "lock": "nothing keeps those that share it from running at one time",
    "dedup": "every Job that is created runs",
    "priority": "pods have a priorityClassName, which the cluster has to declare",
    "depends_on": "pods start in any order: the command, or an initContainer, has to wait for what it needs",
}


def export(leaving: Leaving) -> Exported:
    documents: list[str] = []
    left: list[Left] = []
    names = _Names()
    called = {job.id: names.of(job.id) for job in leaving.jobs}
    for job in leaving.jobs:
        telling = Telling(job)
        try:
            objects = list(_objects(leaving, job, called[job.id], names, telling))
        except Unexportable as error:
            left.append(telling.refused(str(error)))
            continue
        documents += [_document(f"{job.id} ({job.source})", each) for each in objects]
        left.append(telling.left("Kubernetes", _LOST))
    workflows, about_workflows = _workflows(leaving, called)
    jobs, notes = gathered(left)
    documents += workflows
    file = File("manifests.yaml", "---\n".join(documents))
    about_all = _about_all(leaving) if documents else []
    return Exported((file,), jobs, (*about_all, *about_workflows, *notes), is_one_file=True)


def _about_all(leaving: Leaving) -> list[Note]:
    notes = []
    if leaving.image is None:
        notes.append(Note(0, "image", Fate.CHANGED, f'"{PLACEHOLDER}" stands for it: name one with --image'))
    notes.append(Note(0, "files", Fate.CHANGED, "programs and paths are those of the image, not of this machine"))
    if any(name == "PATH" for name, _ in leaving.config.env):
        notes.append(Note(0, "procclaw.yaml env PATH", Fate.DROPPED, "the image has its own"))
    if leaving.config.pass_env:
        notes.append(Note(0, "daemon.pass_env", Fate.DROPPED, "there is nobody to pass them on"))
    if names := secret_names(leaving):
        where = f" -n {leaving.namespace}" if leaving.namespace else ""
        values = " ".join(f"--from-literal={name}=VALUE" for name in names)
        says = f"their values stay here; to put them there: kubectl create secret generic {SECRET}{where} {values}"
        notes.append(Note(0, "secrets", Fate.CHANGED, says))
    return notes


def _workflows(leaving: Leaving, called: dict[str, str]) -> tuple[list[str], list[Note]]:
    documents, notes = [], []
    names = _Names()
    for name, workflow in leaving.workflows.items():
        what, own = f"workflow {name}", names.of(name)
        try:
            spec = workflow_template(leaving, name, workflow, called)
        except Unexportable as error:
            notes.append(Note(0, what, Fate.REFUSED, str(error)))
            continue
        template = _object(leaving, "argoproj.io/v1alpha1", "WorkflowTemplate", own, spec)
        documents.append(_document(what, template))
        says = f"takes Argo Workflows in the cluster: argo submit --from workflowtemplate/{own}"
        notes.append(Note(0, what, Fate.CHANGED, says))
        if workflow.pass_results:
            notes.append(Note(0, f"{what} pass_results", Fate.DROPPED, "steps find nothing of those before them"))
    return documents, notes


def _objects(leaving: Leaving, job: JobSpec, name: str, names: "_Names", telling: Telling) -> Iterator[Object]:
    telling.changed("log", "kubectl logs prints what a node still has")
    if name != job.id:
        telling.changed("name", f"is called {name} over there")
    pod = _pod(leaving, job, name, telling)
    _tell_of_shutdown(job, telling)
    match job.type:
        case JobType.CONTINUOUS if job.restart is not Restart.NEVER:
            yield _object(leaving, "apps/v1", "Deployment", name, _deployment(job, name, pod, telling), job)
        case JobType.SCHEDULED:
            times = times_of(job)
            if len(times) > 1:
                telling.changed("schedule", f"becomes {len(times)} CronJobs, which do not know of each other")
            for number, each in enumerate(times, start=1):
                own = name if len(times) == 1 else names.of(f"{name}-{number}")
                spec = _cron_job(leaving, job, each, pod, telling)
                yield _object(leaving, "batch/v1", "CronJob", own, spec, job)
        case _:
            yield _object(leaving, "batch/v1", "Job", name, _waiting_job(job, pod, telling), job)


def _pod(leaving: Leaving, job: JobSpec, name: str, telling: Telling) -> Object:
    """A template for pods."""
    main = container(leaving, job, name, telling) | probes(job, telling)
    stays = job.type is JobType.CONTINUOUS and job.restart is not Restart.NEVER
    spec: Object = {
        "restartPolicy": "Always" if stays else "Never",
        "terminationGracePeriodSeconds": math.ceil(job.shutdown.grace_seconds),
    }
    if job.timeout_seconds is not None and not stays:
        # Of the pod, not of the Job: it is the limit of one attempt.
        spec["activeDeadlineSeconds"] = max(1, math.ceil(job.timeout_seconds))
        telling.kept("timeout")
    return {"metadata": {"labels": {"app.kubernetes.io/name": name}}, "spec": {**spec, "containers": [main]}}


def _tell_of_shutdown(job: JobSpec, telling: Telling) -> None:
    telling.kept("shutdown", "tags", "description", "name")
    if job.shutdown.signal != _SIGTERM:
        telling.changed("shutdown", "SIGTERM asks it to stop, or what STOPSIGNAL of the image says")
    if job.shutdown.leftovers is Leftovers.KEEP:
        telling.changed("shutdown", "nothing outlives its container")
    if isinstance(job.cmd, str) and job.type is JobType.CONTINUOUS and not re.search(r"(^|[;&\n]\s*)exec\s", job.cmd):
        says = "the shell is the container's first process and passes no signal on: put exec before the last command"
        telling.changed("cmd", says)


# --- the three kinds ---


def _deployment(job: JobSpec, name: str, pod: Object, telling: Telling) -> Object:
    if job.restart is Restart.ALWAYS:
        telling.kept("restart")
    else:
        telling.changed("restart", "it is brought back after exit code 0 as well")
    telling.changed("retry", "it is started again without end, after 10 s, and twice as long each time up to 5 minutes")
    telling.kept("enabled")
    return {
        "replicas": 1 if job.enabled else 0,
        # Never two at a time, as here.
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
        "template": pod,
    }


def _cron_job(leaving: Leaving, job: JobSpec, times: Times, pod: Object, telling: Telling) -> Object:
    telling.kept("schedule", "timezone", "enabled")
    if times.meets_clock_changes:
        says = "a time that is skipped when clocks go forward is passed over; one that comes twice may run twice"
        telling.changed("schedule", says)
    kept = min(leaving.config.history.keep_runs, _MOST_KEPT)
    return {
        "schedule": _cron_line(times),
        "timeZone": times.zone,
        "concurrencyPolicy": _concurrency(job, telling),
        "startingDeadlineSeconds": _deadline(job, telling),
        **({} if job.enabled else {"suspend": True}),
        "successfulJobsHistoryLimit": kept,
        "failedJobsHistoryLimit": kept,
        "jobTemplate": {"spec": {"backoffLimit": _backoff_limit(job, telling), "template": pod}},
    }


def _waiting_job(job: JobSpec, pod: Object, telling: Telling) -> Object:
    """One that is created once and runs once."""
    limit = _backoff_limit(job, telling)
    if job.type is JobType.CONTINUOUS:
        telling.explained("restart", "a Job runs once, and is not brought back")
        telling.kept("enabled")
        return {**({} if job.enabled else {"suspend": True}), "backoffLimit": limit, "template": pod}
    if job.type is JobType.ONESHOT:
        telling.dropped("run_at", "a Job has no time: it waits until it is let go")
        telling.dropped("catch_up", "a Job has no time that it could miss")
    telling.kept("enabled")
    patch = '{"spec":{"suspend":false}}'
    telling.changed("type", f"kubectl patch job NAME -p '{patch}' lets it go, once; it is created anew to run again")
    return {"suspend": True, "backoffLimit": limit, "template": pod}


def _cron_line(times: Times) -> str:
    """Raises Unexportable for what the cluster's own cron reads otherwise."""
    if times.has_special_days:
        raise Unexportable(f'"{times.line.upper()}": a CronJob knows neither L nor #')
    if times.restricts_both and times.needs_both:
        raise Unexportable(f'"{times.line}": a CronJob takes days and weekdays as alternatives, here both must fit')
    weekday = times.weekday
    if "7" in weekday:
        weekday = ",".join(map(str, weekdays(weekday)))
    return times._replace(weekday=weekday).line


def _concurrency(job: JobSpec, telling: Telling) -> str:
    if job.concurrency.max_instances > 1:
        telling.changed("concurrency", "any number of runs may be active")
        telling.changed("on_overlap", "any number of runs may be active")
        return "Allow"
    if job.on_overlap is Overlap.KILL_RESTART:
        telling.kept("on_overlap")
        return "Replace"
    says = (
        "a due time that finds the last run active is started when that ends within startingDeadlineSeconds, or never"
    )
    telling.changed("on_overlap", says)
    return "Forbid"


def _deadline(job: JobSpec, telling: Telling) -> int:
    wanted = 0 if job.catch_up.policy is CatchUpPolicy.NONE else math.ceil(job.catch_up.within_seconds)
    if job.catch_up.policy is CatchUpPolicy.LATEST and wanted >= _LEAST_DEADLINE_SECONDS:
        telling.kept("catch_up")
    elif job.catch_up.policy is CatchUpPolicy.ALL:
        telling.changed("catch_up", "only the latest missed time is made up for")
    else:
        telling.changed("catch_up", f"a start may be up to {_LEAST_DEADLINE_SECONDS} s late")
    return max(wanted, _LEAST_DEADLINE_SECONDS)


def _backoff_limit(job: JobSpec, telling: Telling) -> int:
    if not job.retry.enabled:
        telling.kept("retry")
        return 0
    limit = job.retry.max_attempts
    times = "without end" if limit is None else f"{limit} times"
    telling.changed("retry", f"{times}, after 10 s, and twice as long each time up to 6 minutes")
    return _ENDLESS if limit is None else limit


# --- objects ---


def _object(leaving: Leaving, version: str, kind: str, name: str, spec: Object, job: JobSpec | None = None) -> Object:
    metadata: Object = {"name": name}
    if leaving.namespace is not None:
        metadata["namespace"] = leaving.namespace
    metadata["labels"] = {"app.kubernetes.io/name": name}
    if job is not None and (annotations := _annotations(job)):
        metadata["annotations"] = annotations
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _annotations(job: JobSpec) -> Object:
    named = job.name if job.name != job.id else ""
    about = ": ".join(filter(None, (named, job.description)))
    return ({"kubernetes.io/description": about} if about else {}) | ({"tags": ", ".join(job.tags)} if job.tags else {})


def _document(about: str, value: dict[str, Any]) -> str:
    return "\n".join((f"# {about}", *dumped(value))) + "\n"


class _Names:
    """Names that the cluster takes: small letters, digits and hyphens, each once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, name: str) -> str:
        plain = _NO_NAME.sub("-", name.lower()).strip("-")[:_LONGEST_NAME].rstrip("-")
        found, number = plain, 1
        while found in self._taken:
            number += 1
            ending = f"-{number}"
            found = plain[: _LONGEST_NAME - len(ending)].rstrip("-") + ending
        self._taken.add(found)
        return found
