"""The command `gitkube`, one file a subcommand; `main.py` lists them and loads only the one that is asked
for.
"""
