"""What the simulated world has found, and what keeps each find from coming back.

A seed names a history only as long as nothing that draws by lot changes, so a seed alone would soon guard nothing. Each
find therefore has a test of its own that shows the same with as little as possible, and that is what stays. The seeds
beside it are those of the present generator; they are played again by `test_simulation`. Whoever changes what is drawn
empties them, and whoever mends what a seed has found adds a line with both.
"""

from typing import NamedTuple


class Find(NamedTuple):
    what: str
    test: str
    """Of this folder: module and function."""
    seeds: tuple[int, ...] = ()
    """Of the present generator."""


FINDS = (
    Find(
        "a shim died before it wrote its pid, and who depends on its job was let start",
        "test_board.test_a_process_that_is_gone_or_never_began_is_not_up_although_no_end_of_it_is_recorded",
    ),
    Find(
        "a record was deleted, its process ended, and who depends on its job was let start",
        "test_board.test_a_process_that_is_gone_or_never_began_is_not_up_although_no_end_of_it_is_recorded",
    ),
    Find(
        "a service was started, and what was planned for later was taken for its run and started at once",
        "test_requests.test_starting_a_service_leaves_alone_what_is_planned_for_later",
    ),
    Find(
        "a run found again by its record was overwritten by another one of the same occasion",
        "test_draft.test_an_occasion_whose_run_was_found_again_by_its_record_gets_no_second_one",
    ),
    Find(
        "a start recorded before the clock was set back counted as one to come",
        "test_dependencies.test_after_start_holds_once_it_has_run_since_the_waiting_run_was_made",
    ),
    Find(
        "nobody looked again at who waited for a run that gave up",
        "test_dependencies.test_who_waits_for_a_run_that_gives_up_is_looked_at_again_at_once",
    ),
    Find(
        "a slot noticed late ran beside a run that stood for it",
        "test_store.test_what_may_stand_for_a_slot_reaches_back_from_when_the_first_due_one_can_have_been_due",
    ),
    Find(
        "an end noticed just when a waiting run was made counted as one that came after",
        "test_dependencies.test_after_start_holds_once_it_has_run_since_the_waiting_run_was_made",
    ),
    Find(
        "the end of a process was seen and left to another cycle, and its job counted as up meanwhile",
        "test_board.test_a_process_that_is_gone_or_never_began_is_not_up_although_no_end_of_it_is_recorded",
    ),
    Find(
        "a manual job found again by its record had run in no boot, and who depends on it waited for ever",
        "test_strays.test_a_start_that_a_restored_database_has_forgotten_gets_its_rows_back",
    ),
    Find(
        "what a record says is over counted as started just now",
        "test_strays.test_a_start_that_a_restored_database_has_forgotten_gets_its_rows_back",
    ),
    Find(
        "a run taken back while it waited for its next attempt counted as one that had run until then",
        "test_dependencies.test_a_run_that_was_taken_back_ran_no_later_than_its_attempts",
        (2261,),
    ),
    Find(
        "a run that ended before it began, the clock having been set back and forward since, counted as a new start",
        "test_dependencies.test_after_start_holds_once_it_has_run_since_the_waiting_run_was_made",
    ),
    Find(
        "two attempts whose shims had had one pid, and a child of the later one was signalled for the earlier",
        "test_processes.test_a_session_belongs_to_the_last_of_two_attempts_whose_shims_had_one_pid",
    ),
    Find(
        "somebody stopped what waited to retry, and who waited for its start began",
        "test_dependencies.test_a_stop_that_somebody_asks_for_is_no_run_of_what_waited_to_retry",
    ),
    Find(
        "an older run ended well after the newest had failed, and in that one plan the job counted as completed",
        "test_draft.test_what_was_made_before_the_newest_run_and_ends_after_it_is_not_the_newest",
    ),
    Find(
        "a job left its queue while it ran, and its place was given away although it still had it",
        "test_cli_gates.test_who_leaves_a_queue_keeps_its_place_until_its_run_is_over",
    ),
    Find(
        "nobody woke for the end of a hold that had just been set on a job at rest",
        "test_requests.test_a_revoke_that_is_to_end_by_itself_holds_until_then",
    ),
    Find(
        "the clock was set back, and a service that had given up waiting once waited an hour longer for a dependency",
        "test_dependencies.test_nobody_waits_longer_for_a_dependency_because_the_clock_was_set_back",
    ),
    Find(
        "the database was moved away, and of two records of one run the exit code of the first was not taken over",
        "test_strays.test_how_that_one_ended_is_known_where_its_record_is_still_there",
    ),
    Find(
        "a job was removed and declared again, and a file that had triggered it triggered it again, over the same run",
        "test_triggers.test_a_job_that_is_gone_is_not_forgotten_over_and_over_for_the_files_that_triggered_it",
    ),
    Find(
        "history kept a step's first run and had lost its second, and a retry ran that once more over its rows",
        "test_workflows.test_a_retry_that_makes_no_sense_is_refused",
    ),
)
