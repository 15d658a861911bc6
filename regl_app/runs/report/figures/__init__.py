"""One module per kind of figure; each makes a Figure, or an Absent with the reason why not."""
