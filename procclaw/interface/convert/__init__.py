"""Coming from other tools and leaving for them: their files become a jobs.yaml, a jobs.yaml becomes theirs.

Each way says what it kept, what means something else over there, and what got lost, with the line it stands on. Nothing
is ever run, and nothing is guessed in silence.
"""
