"""Coverage-guided fuzzing of the reader of checkpoints: `make fuzz-checkpoints SECONDS=300`.

A file loads, or there is a ValueError or OSError that names it, and nothing has changed. Some of
the files are bytes of any kind; most have parts that were changed, and a right checksum.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["instep", "json"]):
    import instep
    import instep.checkpoint
    import instep.state

import numpy as np
from forged_files import Arrays, forge, make, mutated, parts_of, photograph, save


class Reader:
    """Tries files; `folder` is for the file that is tried."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tried"
        self.parts = folder / "parts"
        # Loaded and refused; the process that tries them ends without a word.
        self.counts = multiprocessing.Array("q", 2, lock=False)

    def try_file(self, content: bytes) -> None:
        """Fail unless a file of that content loads, or is refused as it should be."""
        self.path.write_bytes(content)
        opt = make()
        before = photograph(opt)
        try:
            opt.load(self.path)
        except (ValueError, OSError) as error:
            self.counts[1] += 1
            if str(self.path) not in str(error):
                raise AssertionError("the error does not name the file") from error
            if photograph(opt) != before:
                raise AssertionError("a load that failed has changed something") from error
        else:
            self.counts[0] += 1
            assert [a[:3] for a in photograph(opt)[0]] == [a[:3] for a in before[0]]
            # A state that loads is one that steps can be done with.
            opt.step({"W": np.ones((2, 2)), "b": np.ones(3)})

    def mutate(self, content: bytes, most: int, seed: int) -> bytes:
        """Return another content: any bytes, or other parts with a right checksum."""
        random = np.random.default_rng(seed)
        found = self.parts_of(content) if random.integers(4) else None
        if found is None:
            return bytes(atheris.Mutate(content, most))
        arrays, texts = found
        if random.integers(4) == 0 and arrays:
            names = list(arrays)
            name, other = (names[i] for i in random.integers(len(names), size=2))
            arrays[name] = arrays[other].T.astype(random.choice(["f4", "f8", "i4"]), "C")
        key = list(texts)[random.integers(len(texts))]
        if random.integers(2):
            text = atheris.Mutate(texts[key].encode("utf-8", "replace"), 4096)
            texts[key] = text.decode("utf-8", "replace")
        else:
            with contextlib.suppress(ValueError, RecursionError):
                texts[key] = json.dumps(mutated(json.loads(texts[key]), random))
        if random.integers(50) == 0:
            del texts[key]
        try:
            forge(self.parts, arrays, texts)
        except ValueError:
            return content
        return self.parts.read_bytes()[:most]

    def parts_of(self, content: bytes) -> tuple[Arrays, dict[str, str]] | None:
        self.parts.write_bytes(content)
        try:
            arrays, texts = parts_of(self.parts)
        except (ValueError, KeyError):
            return None
        return (dict(arrays), dict(texts)) if texts else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="0 for any")
    parser.add_argument("--again", type=Path, help="try this file, as it is")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(Path(folder))
        if given.again is not None:
            reader.try_file(given.again.read_bytes())
            return
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        save(corpus / "saved")
        plain = make()
        plain.save(corpus / "plain")
        instep.SGD(np.ones(2)).save(corpus / "other")
        run(reader, corpus, given.seconds, given.seed)


def run(reader: Reader, corpus: Path, seconds: int, seed: int) -> None:
    """Try files for so long; the process ends with it."""

    def mutate(content: bytes, most: int, seed: int) -> bytes:
        return reader.mutate(content, most, seed)

    words: list[Any] = [f"-max_total_time={seconds}", f"-seed={seed}", "-max_len=16384"]
    # A hang is a failure too; what fails is written into the folder that the command ran in.
    words += ["-timeout=60", "-rss_limit_mb=4096", "-print_final_stats=1", str(corpus)]
    if os.fork() == 0:
        atheris.Setup([sys.argv[0], *words], reader.try_file, custom_mutator=mutate)
        atheris.Fuzz()
    _, status = os.wait()
    print("{:,} files loaded, {:,} were refused".format(*reader.counts))
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
