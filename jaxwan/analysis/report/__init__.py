"""The report of a results folder: one HTML page that needs no network, a text and a picture."""
