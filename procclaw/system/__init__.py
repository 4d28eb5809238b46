"""One outside thing per module: it reports what it saw or does what it was told, and never decides."""
