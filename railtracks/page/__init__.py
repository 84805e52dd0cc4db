"""A run as a page: one HTML file that needs nothing else, and that a server can keep up to date."""
