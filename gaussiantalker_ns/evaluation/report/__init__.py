"""Evaluation reports: tables, figures, the page, and the files written."""
