"""A commit's files to objects with places: plain YAML, Jinja2 templates, and apps made from a template.

    *.yaml, *.yml            read as they stand
    *.yaml.j2, *.yml.j2      rendered with the values of their directory and those above
    values.yaml              values, at the root and in any directory
    templates/               templates by name, for includes and for `kind: Template`; never deployed itself

Directories and files whose names start with a dot are not read. Each file's result is kept under the ids of
all blobs it was made from, so a commit that changes one file renders one file.
"""

from gitkube.gitops.render.model import Manifest, Rendered
from gitkube.gitops.render.renderer import Renderer

__all__ = ["Manifest", "Rendered", "Renderer"]
