"""The grader's own tests. Where Debian's programs were unpacked instead of installed (tools/lib.sh), they are found."""

import os
from pathlib import Path

_UNPACKED = Path(__file__).resolve().parent.parent / ".cache" / "debian"
os.environ["PATH"] = os.pathsep.join(
    [
        *(str(_UNPACKED / folder) for folder in ("usr/bin", "usr/sbin", "bin")),
        os.environ.get("PATH", os.defpath),
    ]
)
