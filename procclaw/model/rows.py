"""What is written to the database: one kind of value for each table, and for each way of removing rows."""

from procclaw.model.alerts import Alert, Trouble, TroubleOver, Watch
from procclaw.model.intents import Intent
from procclaw.model.records import (
    Attempt,
    Cursor,
    CycleRecord,
    DeadLetter,
    DeadLettersPurged,
    Event,
    Health,
    Hold,
    HoldLifted,
    JobForgotten,
    Run,
    Slots,
    SlotsWithdrawn,
    TriggerFile,
    TriggerFileGone,
    Usage,
    WorkflowRun,
)

Write = (
    Run
    | Attempt
    | Slots
    | Cursor
    | Hold
    | Intent
    | Health
    | Usage
    | Alert
    | Trouble
    | Watch
    | DeadLetter
    | TriggerFile
    | WorkflowRun
    | HoldLifted
    | SlotsWithdrawn
    | JobForgotten
    | TroubleOver
    | TriggerFileGone
    | DeadLettersPurged
)
"""What a plan has written: a row of a table, or what is to become of some."""


Row = Write | Event | CycleRecord
"""What is written; an event is made from what is, and a cycle's record of all of it, and neither is ever planned."""
