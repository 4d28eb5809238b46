"""Files that trigger: which of those seen get a run, and what becomes of a file whose run has succeeded.

A file triggers once for what it is (`identity`): the row that says so and the run are written together, and the row
stays as long as the file does, so neither a restart nor a purged history makes it trigger again, nor that the job was
not declared for a while. A file that has changed since is another file. While the job is held or disabled its files
wait; none is lost.
"""

from procclaw.model.outside import FileSight
from procclaw.model.records import HoldKind, Run, RunState, Trigger, TriggerFile, TriggerFileGone
from procclaw.model.spec import JobSpec, JobType, TriggerType
from procclaw.planning.actions import DeleteFile
from procclaw.planning.draft import Draft

LOOK_SECONDS = 1.0
"""How often to look at a directory: nothing wakes us when a file appears in it."""

MOST_AT_ONCE = 100
"""Runs made in one plan; more files than that wait for the next, which follows at once."""


def watches_files(spec: JobSpec) -> bool:
    return any(trigger.type is TriggerType.FILE for trigger in spec.triggers)


def take_files(draft: Draft) -> None:
    """Give a run to each file that has settled and did not trigger before; forget those that are gone."""
    spec = draft.spec
    if spec is None or not watches_files(spec) or spec.type is JobType.CONTINUOUS:
        return
    draft.wake_within(LOOK_SECONDS)
    seen = {file.path: file for file in draft.job.files.files}
    known = {file.path: file for file in draft.job.triggered}
    for before in known.values():
        if before.path not in seen and not _hides(draft, before.path):
            draft.writes.append(TriggerFileGone(draft.job.id, before.path))
        elif before.path in seen and seen[before.path].delete_after and _is_known(seen[before.path], before):
            _delete_if_done(draft, before)
    if is_closed(draft):
        return
    fresh = [file for file in seen.values() if file.is_settled and not _is_known(file, known.get(file.path))]
    for file in fresh[:MOST_AT_ONCE]:
        if not spec.concurrency.queue_excess and draft.active_count() >= spec.concurrency.max_instances:
            return  # a run more would be refused, and a file has nobody to tell: it stays until there is a place
        _trigger(draft, file)
    if len(fresh) > MOST_AT_ONCE:
        draft.wake(draft.now)


def is_closed(draft: Draft) -> bool:
    """Whether nothing triggers the job now."""
    assert draft.spec is not None
    is_held = HoldKind.PAUSE in draft.holds or HoldKind.REVOKE in draft.holds or bool(draft.state.home_holds)
    return is_held or not draft.spec.enabled


def _is_known(file: FileSight, before: TriggerFile | None) -> bool:
    return before is not None and before.identity == file.identity


def _hides(draft: Draft, path: str) -> bool:
    """Whether the file may be there and could not be seen: its directory was not to be read."""
    directory = path.rpartition("/")[0]
    return any(problem.startswith(f"{directory}:") for problem in draft.job.files.problems)


def _trigger(draft: Draft, file: FileSight) -> None:
    # Whatever else was asked for lately: no other run has this file, so none can stand for this one.
    run = draft.open_run(f"file:{file.identity}:{file.path}", Trigger.FILE, trigger_file=file.path)
    draft.writes.append(TriggerFile(draft.job.id, file.path, file.identity, run.id, draft.now))


def _delete_if_done(draft: Draft, file: TriggerFile) -> None:
    """Delete a file whose run has succeeded."""
    run = _run_of(draft, file)
    if run is not None and run.state is RunState.SUCCEEDED and run.trigger_file == file.path:
        draft.effects.append(DeleteFile(draft.job.id, file.path, file.identity))


def _run_of(draft: Draft, file: TriggerFile) -> Run | None:
    going = next((going.run for going in draft.going if going.run.id == file.run_id), None)
    return going or draft.job.file_runs.get(file.run_id)
