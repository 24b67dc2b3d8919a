"""Answers requests in real time: admits, batches, schedules, settles. Knows no wire, no file format, no framework."""
