"""Studio: the page on which a recording becomes a talker."""
