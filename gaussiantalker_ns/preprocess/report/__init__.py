"""The report on a data set: quality of the clip, warnings, figures, the page."""
