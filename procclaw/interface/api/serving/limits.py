"""How long and how much one client may take, and all of them together.

Whoever can reach the port may be slow, broken or mean, so every wait for a client has an end and everything that is
kept for one has a size. Each connection has a thread, which costs little while it waits; so slow clients are borne
with, and only their number is held down.
"""

HEAD_SECONDS = 10.0
"""For a request's head, from its first byte or, on a new connection, from the start, however it drips in. A person with
a terminal and a slow line takes less."""
BODY_SECONDS = 30.0
"""For a whole body, from when the application asks for it: the largest one at 70 kB/s."""
IDLE_SECONDS = 60.0
"""Between two requests. A page that looks every few seconds keeps its connection; one that was left gives it back."""
SEND_SECONDS = 30.0
"""Without the client taking a byte of what is sent. Long enough for a page in a tab that the browser froze."""
LINGER_SECONDS = 2.0
"""After the last answer, for what is still coming: closing on bytes nobody read would take the answer away with them.
One that only waits for the end goes at once."""
REFUSED_SECONDS = 1.0
"""The same for those who found no place, for whom the accepting thread must keep them."""

HEAD_BYTES = 32 * 1024
"""Several times what a browser sends, cookies of every other port of the same host included."""
FIELDS = 100
REQUEST_LINE_BYTES = 8 * 1024
"""As RFC 9112 recommends."""
BODY_BYTES = 2 * 1024 * 1024
"""Twice the longest payload of a trigger, which may be put as escaped JSON."""
LINGER_BYTES = 16 * 1024 * 1024
"""Thrown away after the last answer; whoever sends more is cut off."""
SEND_BUFFER_BYTES = 256 * 1024
"""What the kernel keeps for one that does not read; by itself it would take megabytes."""

CONNECTIONS = 256
"""A thread, a database connection and some descriptors each; a few hundred pages open at once."""
REFUSED = 64
"""Kept open until they have seen why; those before them are cut off."""
BACKLOG = 1024
"""Not yet accepted. A burst beyond it is not refused but tries again after a second, which feels like a hang."""

GRACE_SECONDS = 0.5
"""When the server closes, for answers under way."""
CUT_SECONDS = 0.4
"""After that, for the threads to end; what the application is still doing for one goes on without a client."""
SHORT_SECONDS = 0.2
"""Between two tries to accept when descriptors or memory have run out."""
COMPLAIN_AGAIN_SECONDS = 60.0
