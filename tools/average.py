"""Average checkpoints of one network into one file of weights (the paper's ensemble, Eq. 7)."""
import cli

from ldm.training.ensemble import average_files
from ldm.weights import summary


def main():
    parser = cli.Parser(description=__doc__)
    parser.add_argument("checkpoints", nargs="+", metavar="F",
                        help="files of weights, of any kind that convert.py reads")
    parser.add_argument("--weights", metavar="W1,W2,...", help="a number a checkpoint, relative to their sum "
                                                               "(all equal otherwise)")
    parser.add_argument("--container", metavar="KEY",
                        help="where the weights are, such as ema, if the files hold several sets")
    parser.add_argument("--dtype", choices=["float16"], help="write floats in half the space of float32")
    parser.add_argument("--output", required=True, metavar="F", help="the .safetensors file to write")
    arguments = parser.parse_args()
    try:
        weights = [float(w) for w in arguments.weights.split(",")] if arguments.weights else None
    except ValueError:
        parser.error(f"--weights {arguments.weights}: numbers with commas between are needed")
    state = average_files(arguments.checkpoints, arguments.output, weights, arguments.dtype,
                          arguments.container)
    print(f"{arguments.output}: {summary(state)}, the mean of {len(arguments.checkpoints)} checkpoints")


if __name__ == "__main__":
    cli.run(main)
