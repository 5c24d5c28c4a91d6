"""Speed on this machine, each part beside a plain way to do the same."""
