"""The command `gitkube`: one file a subcommand, and only the one that is asked for is loaded."""
