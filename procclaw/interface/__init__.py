"""Translation between people or programs and the engine. No rule lives here."""
