"""`report.html`: a run as one file that needs no network and never runs the data it shows."""
