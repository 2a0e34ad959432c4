"""Charts: pure functions from a record's data to a Plotly figure, one figure a file."""
