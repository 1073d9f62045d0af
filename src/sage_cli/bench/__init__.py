"""Measure a model on a question set: items in, one record per question out, and a report on the records."""
