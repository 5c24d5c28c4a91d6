"""The commands of the command line, one a file; `register(app)` of each adds them to an app."""
