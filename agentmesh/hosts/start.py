"""What a bundle runs first: a few lines that find the code beside them. They run outside of this package."""

from __future__ import annotations

from typing import Final

_FIND: Final = """\
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Before anything that is installed: the bundle was made with this code.
sys.path.insert(0, str(HERE))
"""

MESH_START: Final = f'''\
"""Starts the mesh of this bundle, in a folder of the person's that outlasts the bundle."""

{_FIND}

def settled(name: str) -> Path:
    """The mesh's own folder, with all files that the bundle has and it has not."""
    given = os.environ.get("AGENTMESH_BUNDLE_FOLDER", "")
    # A host that fills nothing in hands on the name of the setting.
    folder = Path(given).expanduser() if given and "${{" not in given else Path.home() / "agentmesh" / name
    source = HERE.parent / "mesh"
    for path in sorted(source.rglob("*")):
        target = folder / path.relative_to(source)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            # What is copied has a name of its own first: a file that is there is whole.
            draft = target.with_name(f".{{target.name}}.{{os.getpid()}}.part")
            draft.write_bytes(path.read_bytes())
            draft.replace(target)
    return folder


if __name__ == "__main__":
    from agentmesh.__main__ import main

    mesh_file = sys.argv[1] if len(sys.argv) > 1 else "mesh.toml"
    sys.exit(main(["serve", str(settled(HERE.parent.name) / mesh_file)]))
'''

SERVER_START: Final = f'''\
"""Starts the tool server of this bundle."""

{_FIND}

if __name__ == "__main__":
    from agentmesh_servers.__main__ import main

    sys.exit(main(sys.argv[1:]))
'''
