"""The cost of fingerprinting a media file: hashing it once, and looking it up again.

    python -m benchmarks.hashing [--gib 2]

Writes a file of that size to the folder for temporary files and reads it from the page cache; a disk may be slower.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from sage_cli.store import content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=int, default=2, help="size of the file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sage-") as folder:
        os.environ["SAGE_CACHE_DIR"] = f"{folder}/cache"
        path = Path(folder) / "media"
        with path.open("wb") as file:
            for _ in range(arguments.gib << 4):
                file.write(os.urandom(1 << 26))
            os.fsync(file.fileno())
        time.sleep(3)
        spent = []
        for _ in range(2):
            began = time.perf_counter()
            content.fingerprint(path)
            spent.append(time.perf_counter() - began)
        kept = sum(entry.stat().st_size for entry in (Path(folder) / "cache" / "fingerprints").glob("*"))
        print(f"{os.cpu_count()} cores, {arguments.gib} GiB in the page cache")
        print(f"first time: {spent[0]:.2f} s, {arguments.gib / spent[0]:.1f} GiB/s")
        print(f"again:      {spent[1] * 1e3:.2f} ms, {kept} bytes kept")


if __name__ == "__main__":
    main()
