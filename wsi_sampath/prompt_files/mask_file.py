"""The file of masks: answers as they come, then a GeoJSON in the order of the prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from wsi_sampath.outputs.growing import GrowingFile, disk_full_named
from wsi_sampath.outputs.qupath.packing import TAIL, check_suffix, head, pack
from wsi_sampath.prompt_files.answer import Answer, Unanswered
from wsi_sampath.prompt_files.journal import AnswerJournal
from wsi_sampath.prompt_files.mask_features import MaskRun, mask_features
from wsi_sampath.prompt_files.prompt import PromptFile, Refused

_NOTHING_LEFT = "its mask is empty"


@dataclass(frozen=True)
class WrittenMasks:
    """What became of a file of prompts.

    Attributes
    ----------
    masks
        Features in the file.
    answered
        Prompts with a mask.
    problems
        Prompts without one, and what of the file could not be used, each with its reason.
    coarser, cut
        Answers that are; see `Answer`.
    """

    masks: int
    answered: int
    problems: tuple[Refused, ...]
    coarser: int = 0
    cut: int = 0


class MaskFile:
    """Write the masks of prompts for QuPath, whatever stops the program in between.

    Answers go to PATH.answers, each safe once `add` returns. When the `with` block ends, PATH
    appears whole, with the same bytes whether there was a stop or not. If the block ends by an
    exception, PATH.answers stays for the next one of the same run to go on from.

    Parameters
    ----------
    path
        Ends in .geojson or .json, or with .gz after it, or in .geojson.zip. The caller has made
        sure that what lies there may be replaced.
    read
        The prompts.
    run
        What all masks have in common; answers of another `run` do not count.

    Raises
    ------
    WsiError
        ``bad-input`` for another suffix, or a foreign file at PATH.answers; ``disk-full``.
    """

    def __init__(self, path: Path, read: PromptFile, run: MaskRun) -> None:
        check_suffix(path)
        self._path, self._read, self._run = path, read, run
        self._journal = AnswerJournal(path.with_name(path.name + ".answers"), run.run)
        self._written: WrittenMasks | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._journal.close()

    @property
    def torn(self) -> int:
        """Answers of an earlier, stopped run that cannot be read, and are asked for again."""
        return self._journal.torn

    def remaining(self) -> list[int]:
        """Return the indices of prompts that have no answer yet, in order."""
        return [number for number in range(len(self._read.prompts)) if number not in self._journal]

    def add(self, answer: Answer | Unanswered) -> None:
        """Keep what was found for a prompt."""
        if isinstance(answer, Unanswered):
            entry: dict[str, Any] = {"reason": answer.reason}
        else:
            prompt = self._read.prompts[answer.prompt]
            features = mask_features(prompt, answer, self._run)
            seen = {"coarser": answer.is_coarser, "cut": answer.is_cut}
            entry = {"features": features, **seen} if features else {"reason": _NOTHING_LEFT}
        self._journal.add(answer.prompt, entry)

    def close(self) -> WrittenMasks:
        """Write the file and delete the answers; a second time returns the same.

        Raises
        ------
        ValueError
            If a prompt has no answer.
        """
        if self._written is None:
            if self.remaining():
                raise ValueError(f"prompts {self.remaining()[:5]} have no answer yet")
            problems, coarser, cut = self._tally()
            with disk_full_named("the masks", self._path):
                masks = self._write(problems)
            self._journal.remove()
            answered = len(self._read.prompts) - len(problems)
            everything = (*self._read.refused, *problems)
            self._written = WrittenMasks(masks, answered, everything, coarser, cut)
        return self._written

    def _write(self, unanswered: Sequence[Refused]) -> int:
        """Write the file; where that fails, what there is of it goes, and the answers stay."""
        growing = self._path.with_name(self._path.name + ".partial")
        file = GrowingFile(growing)
        try:
            count = self._append_all(file, unanswered)
            file.close()
            pack(growing, self._path)
        except BaseException:
            file.abandon()
            growing.unlink(missing_ok=True)
            raise
        return count

    def _append_all(self, file: GrowingFile, unanswered: Sequence[Refused]) -> int:
        file.append(head(self._run.run, self._summary(unanswered)))
        count = 0
        for feature in self._features():
            file.append(((",\n" if count else "\n") + feature).encode())
            count += 1
        file.append(TAIL)
        return count

    def _features(self) -> Iterator[str]:
        for number in range(len(self._read.prompts)):
            yield from self._journal.entry(number).get("features", ())

    def _tally(self) -> tuple[tuple[Refused, ...], int, int]:
        """Return the prompts without a mask, and the numbers of coarser and of cut answers."""
        problems, coarser, cut = [], 0, 0
        for number, prompt in enumerate(self._read.prompts):
            entry = self._journal.entry(number)
            reason = entry.get("reason")
            if reason is not None:
                problems.append(Refused(prompt.where, reason, id=prompt.id, name=prompt.name))
            coarser += bool(entry.get("coarser"))
            cut += bool(entry.get("cut"))
        return tuple(problems), coarser, cut

    def _summary(self, unanswered: Sequence[Refused]) -> dict[str, Any]:
        return {
            "model": self._run.model,
            "weights_sha256": self._run.weights_sha256,
            "prompts": len(self._read.prompts),
            "unanswered": [_as_json(one) for one in unanswered],
            "refused": [_as_json(one) for one in self._read.refused],
        }


def _as_json(problem: Refused) -> dict[str, str]:
    named = {"id": problem.id, "name": problem.name}
    given = {key: value for key, value in named.items() if value}
    return {"where": problem.where, **given, "reason": problem.reason}
