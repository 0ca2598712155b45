"""Average the weights of two stages of one run; both must share widths and scaling."""

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--early", type=Path, required=True, help="folder of the earlier model")
    parser.add_argument("--late", type=Path, required=True, help="folder of the later model")
    parser.add_argument("--late-share", type=float, default=0.7)
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    args = parser.parse_args()
    early, late = (load_file(folder / "weights.safetensors") for folder in (args.early, args.late))
    mixed = {
        name: early[name].lerp(value, args.late_share) if value.is_floating_point() else value
        for name, value in late.items()
    }
    args.out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(args.late / "model.json", args.out / "model.json")
    save_file(mixed, args.out / "weights.safetensors")


if __name__ == "__main__":
    main()
