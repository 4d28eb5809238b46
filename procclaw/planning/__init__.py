"""Pure decisions: functions of values, without clock, files, SQL, processes or randomness."""
