"""Words and values that every other room shares. Imports nothing of ours."""
