"""Decisions: seeds spent until an interval is narrow or a choice is sure."""
