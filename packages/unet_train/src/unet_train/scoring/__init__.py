"""How good predictions are: pixels counted, scores, intervals, reports."""
