"""The rules that choose a host, one file each; `profile.py` beside them says which are in force."""
