"""`report.html`: a run as one page that opens from disk, reaches no network and runs nothing it shows."""
