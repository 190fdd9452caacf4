"""What a named data set is: source, sums, layout, counts, terms."""
