"""From git to objects: what a commit means, whether it may land, and how the cluster comes to match it.

`source` reads a commit from git's object store, `render` turns its files into objects that know their file
and line, `check` says what is wrong with them, `plan` what they would change, `sync` makes it so and keeps
it so, `health` and `rollout` say how it goes, and `hooks` is the conversation with the person who pushes.
Whatever is refused is refused as `Problem`s, each with its place in git.
"""
