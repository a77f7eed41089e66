"""Reads what runs wrote and shows it: statistics, curves, films, and the page that holds them."""
