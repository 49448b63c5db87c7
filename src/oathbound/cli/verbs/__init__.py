"""One module per verb: its options, and how its answer is written. What a verb does is in `workflow`."""
