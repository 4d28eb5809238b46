"""Benchmarks: run by hand, each figure beside a floor measured in the same run."""
