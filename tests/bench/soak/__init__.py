"""The soak: hundreds of jobs for hours, and what that does to the manager that looks after them.

`jobs` declares them, `operator` is the person who edits and asks meanwhile, `watch` looks and writes down, `course` has
all of it happen in its time, `verdict` judges from what is written down alone. `python -m tests.bench.soak --help`.
"""
