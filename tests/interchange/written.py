"""Result files in the forms of other harnesses, as small as these allow."""

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

Row = Mapping[str, Any]
"""`text` and `label`."""
WORDS = ("negative", "positive")


def lm_eval(rows: Sequence[Row], scores: Sequence[Sequence[float]], **changed: Any) -> list[dict[str, Any]]:
    """Samples of a task that chooses: the log-likelihoods of both words for each row."""
    return [
        {
            "doc_id": i,
            "doc": dict(row),
            "target": str(row["label"]),
            "arguments": {
                f"gen_args_{k}": {"arg_0": f"Review: {row['text']}\nIt is", "arg_1": f" {word}"}
                for k, word in enumerate(WORDS)
            },
            "filtered_resps": [[str(one), "False"] for one in pair],
            "filter": "none",
            "metrics": ["acc"],
            "acc": float((pair[1] > pair[0]) == bool(row["label"])),
        }
        | changed
        for i, (row, pair) in enumerate(zip(rows, scores, strict=True))
    ]


def lm_eval_generated(rows: Sequence[Row], answers: Sequence[str]) -> list[dict[str, Any]]:
    """Samples of a task that generates a text."""
    return [
        {
            "doc_id": i,
            "doc": dict(row),
            "target": WORDS[row["label"]],
            "arguments": {"gen_args_0": {"arg_0": f"Review: {row['text']}\nIt is", "arg_1": {"until": ["\n"]}}},
            "filtered_resps": [answer],
            "filter": "none",
            "metrics": ["exact_match"],
            "exact_match": float(answer == WORDS[row["label"]]),
        }
        for i, (row, answer) in enumerate(zip(rows, answers, strict=True))
    ]


def inspect(rows: Sequence[Row], answers: Sequence[str], prompt: str = "{}", status: str = "success") -> dict[str, Any]:
    """A log of a task whose answer is a text; correct where it begins with the target."""
    samples = [
        {
            "id": i,
            "epoch": 1,
            "input": prompt.format(row["text"]),
            "target": WORDS[row["label"]],
            "output": {"completion": answer},
            "scores": {"match": {"value": "CI"[not answer.lower().startswith(WORDS[row["label"]])], "answer": answer}},
            "metadata": {},
        }
        for i, (row, answer) in enumerate(zip(rows, answers, strict=True))
    ]
    about = {"model": "made/up", "packages": {"inspect_ai": "0.0.1"}}
    return {"version": 2, "status": status, "eval": about, "samples": samples}


def archive(log: Mapping[str, Any], **changed: Any) -> bytes:
    """The same log as an archive."""
    members = {"header.json": json.dumps({key: log[key] for key in ("version", "status", "eval")}).encode()}
    members |= {f"samples/{one['id']}_epoch_1.json": json.dumps(one).encode() for one in log["samples"]}
    return zip_of(members, **changed)


def zip_of(members: Mapping[str, bytes], stated_bytes: int | None = None, crc: int | None = None) -> bytes:
    """A zip archive compressed by zstd, which Python's own module writes only from 3.14 on.

    Args:
        stated_bytes, crc: written in place of the true size and checksum of every member.
    """
    body, directory = b"", b""
    for name, data in members.items():
        packed = pa.Codec("zstd").compress(data, asbytes=True)
        size = len(data) if stated_bytes is None else stated_bytes
        sums = struct.pack("<IIIHH", zlib.crc32(data) if crc is None else crc, len(packed), size, len(name), 0)
        common = struct.pack("<HHHHH", 63, 0, 93, 0, 33) + sums
        directory += struct.pack("<IH", 0x02014B50, 63) + common + struct.pack("<HHHII", 0, 0, 0, 0, len(body))
        directory += name.encode()
        body += struct.pack("<I", 0x04034B50) + common + name.encode() + packed
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, len(members), len(members), len(directory), len(body), 0)
    return body + directory + end


def eval_ever(rows: Sequence[Row], answers: Sequence[str], **changed: Any) -> list[dict[str, Any]]:
    """Instances with the extracted answer."""
    return [
        {
            "schema_version": "0.3.0",
            "evaluation_id": "polarity/made-up/1",
            "model_id": "made/up",
            "evaluation_name": "polarity",
            "sample_id": str(i),
            "interaction_type": "single_turn",
            "input": {"raw": row["text"], "reference": [WORDS[row["label"]]]},
            "output": {"raw": [f"I say {answer}"]},
            "answer_attribution": [
                {
                    "turn_idx": 0,
                    "source": "output.raw",
                    "extracted_value": answer,
                    "extraction_method": "regex",
                    "is_terminal": True,
                }
            ],
            "evaluation": {"score": 1.0, "is_correct": answer == WORDS[row["label"]]},
        }
        | changed
        for i, (row, answer) in enumerate(zip(rows, answers, strict=True))
    ]


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write objects as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
