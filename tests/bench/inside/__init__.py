"""Scripts that run with the code of a .pyz, which is their first argument."""
