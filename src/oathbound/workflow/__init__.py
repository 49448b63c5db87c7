"""One module per verb: the only place that joins the pillars, and the one that writes evidence."""
