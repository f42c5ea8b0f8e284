"""A program that publishes the same directory every time: ``python -m tests.support.uploader URL NAME FILES KIB``."""

import random
import sys

from recsys.storage.store import Storage


def publish(url: str, name: str, files: int, kib: int) -> str:
    """Write files of seeded bytes; returns the manifest's checksum."""
    rng = random.Random(7)
    counts = {"files": files}
    store = Storage(url)
    print("begin", flush=True)
    with store.stage(name, counts) as staging:
        for number in range(files):
            (staging / f"{number:02d}.bin").write_bytes(rng.randbytes(kib * 1024))
    return store.manifest(name).checksum


if __name__ == "__main__":
    print(publish(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
