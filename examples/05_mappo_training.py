"""Train policies: all options of `heron train`; without any, `--test`: three short updates.

Run: python examples/05_mappo_training.py --test
     python examples/05_mappo_training.py --iterations 100 --num-workers 1
     python examples/05_mappo_training.py --iterations 100 --independent-policies
     python examples/05_mappo_training.py --test --protocol p2p
"""

import json
import sys
from pathlib import Path

from training.cli.train import run


def main() -> int:
    arguments = ["--setup", "ieee34_ieee13", "--algorithm", "mappo"]
    if "--independent-policies" in sys.argv:
        arguments = ["--setup", "ieee34_ieee13", "--algorithm", "ippo"]
    if "--checkpoint-dir" not in sys.argv:
        arguments += ["--checkpoint-dir", str(Path("checkpoints") / "example-05")]
    code = run([*arguments, *(sys.argv[1:] or ["--test"])])
    assert code == 0, f"training ended with {code}"
    folder = Path(arguments[-1] if "--checkpoint-dir" not in sys.argv else ".")
    if folder.name == "example-05":
        written = sorted(p.name for p in folder.rglob("*") if p.is_file())
        assert written, "training leaves checkpoints and figures"
        print(json.dumps({"folder": str(folder), "files": len(written)}))
    return code


if __name__ == "__main__":
    sys.exit(main())
