"""One cycle of the control loop, what may be asked of it, and when to run it."""
