"""ProcClaw: a process manager and job scheduler in one pure-Python file."""

__version__ = "0.1.0"
