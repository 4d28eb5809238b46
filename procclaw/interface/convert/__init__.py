"""Coming from other tools and leaving for them: their files become a jobs.yaml, a jobs.yaml becomes theirs.

Each way says what it kept, what means something else over there, and what got lost, with the line it stands on. Nothing
is guessed in silence, and nothing is run; only what is itself a program, PM2's JavaScript, node has to run to read it.
"""
