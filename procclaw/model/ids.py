"""Names that follow from what they name, so that planning twice names one thing once."""

from base64 import b32encode
from hashlib import sha256

RUN_ID_LENGTH = 12
"""60 bits: among 100,000 kept runs two share an id with a probability of 4 in a billion."""


def run_id(job_id: str, occasion: str) -> str:
    """The id of the run that a job owes to an occasion: lower-case letters and digits."""
    digest = sha256(f"{job_id}\n{occasion}".encode()).digest()
    return b32encode(digest).decode().lower()[:RUN_ID_LENGTH]
