"""TCP: a round-by-round simulation (flow), the table it fills (generate) and its reader (table)."""
