"""What MLflow's own metrics make of answers, by the call of its tutorials: a program, since much of it goes by its surroundings.

    python reference.py ANSWERS.json FOUND.json

`ANSWERS.json` holds lists of [inputs, ground_truth, outputs] by name; for each name `FOUND.json` gets the metrics and
the columns of the evaluation table. The metrics are MLflow's objects, doing their own sums. Three things that they fetch
from the network are stood in for: NLTK's dictionary, where NLTK_DATA has it; the tokenizer of `token_count`, by one that
counts bytes; the module that `evaluate` loads for toxicity, where the working folder has one of that name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from evalrunner.mlflow.client import quiet_mlflow

LOOPBACK = ("127.0.0.1", "localhost", "::1", None)


def stay_here(event: str, args: tuple[Any, ...]) -> None:
    """Raises where another machine would be asked: what needs one would prove nothing of a machine without it."""
    if event == "socket.getaddrinfo" and args[0] not in LOOPBACK:
        raise OSError(f"MLflow tried to reach {args[0]}")


def evaluated(rows: list[list[str]]) -> dict[str, Any]:
    """The metrics of one dataset and its table by columns."""
    import mlflow
    import pandas

    frame = pandas.DataFrame(rows, columns=["inputs", "ground_truth", "outputs"])
    with mlflow.start_run():
        result = mlflow.models.evaluate(
            data=frame, predictions="outputs", targets="ground_truth", model_type="question-answering",
            evaluators="default",
        )  # fmt: skip
    return {"metrics": result.metrics, "table": result.tables["eval_results_table"].to_dict("list")}


def main(answers: Path, found: Path) -> None:
    sys.addaudithook(stay_here)
    with quiet_mlflow():
        import mlflow
        import tiktoken

        letters = {bytes([number]): number for number in range(256)}
        tiktoken.registry.ENCODINGS["cl100k_base"] = tiktoken.Encoding(
            "cl100k_base", pat_str=r"[\s\S]", mergeable_ranks=letters, special_tokens={}
        )
        mlflow.set_experiment("numbers")
        datasets = json.loads(answers.read_text())
        found.write_text(json.dumps({name: evaluated(rows) for name, rows in datasets.items()}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
