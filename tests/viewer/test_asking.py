"""Whoever asks is answered by one thread: the newest question first, and nothing read in vain."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest
from prompt_stub import DiscNetwork, disc_model, disc_picture, write_discs

from wsi_sampath.errors import WsiError
from wsi_sampath.inference.prompting.prompter import Prompter
from wsi_sampath.inference.prompting.settings import PromptSettings
from wsi_sampath.viewer import asking
from wsi_sampath.viewer.asking import Asker
from wsi_sampath.viewer.drawn import Frame
from wsi_sampath.viewer.making import Maker, answer_json
from wsi_sampath.viewer.requests import Question
from wsi_sampath.viewer.settings import ViewSettings
from wsi_sampath.viewer.shelf import Missing, Shelf, ShelfEntry, opaque_id

SIDE, SIZE = 96, (300, 200)
SETTINGS = PromptSettings(device="cpu", smallest_part=0.0, cache_gib=0.0)
FRAME = Frame(SIZE, (0.25, 0.25))


class GatedNetwork(DiscNetwork):
    """Looks only as often as it is let, and tells where."""

    def __init__(self):
        super().__init__()
        self.gate, self.saw = threading.Semaphore(1000), []

    def shut(self):
        while self.gate.acquire(blocking=False):
            pass

    def embed(self, views):
        assert self.gate.acquire(timeout=30)
        self.saw.append(views[0].sum().item())
        return super().embed(views)


@pytest.fixture(scope="module")
def discs():
    return disc_picture(SIZE[1], SIZE[0])


@pytest.fixture(scope="module")
def entries(discs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    paths = [write_discs(folder / f"{n}.tiff", np.roll(discs, n, axis=1)) for n in (0, 7)]
    paths.append(folder / "bad.tiff")
    paths[-1].write_bytes(b"no slide")
    return [ShelfEntry(opaque_id(path), path.name, path) for path in paths]


@pytest.fixture
def network():
    return GatedNetwork()


@pytest.fixture
def asker(entries, network):
    shelf = Shelf(entries, ViewSettings(model="discs"))
    asker = Asker(shelf, SETTINGS, lambda settings: disc_model(SIDE, network=network))
    yield asker
    network.gate.release(1000)
    asker.close()
    assert not asker._thread.is_alive()
    shelf.close()


def asked(*points, box=None, outline=None):
    told = {"points": [(*point, 1)[:3] for point in points], "box": box, "outline": outline}
    return Question.read(told).prompt(SIZE)


def middle(discs, number):
    y, x = (round(places.mean()) for places in np.nonzero(discs == number))
    return x + 0.5, y + 0.5


def until(told):
    end = time.monotonic() + 30
    while not (found := told()):
        assert time.monotonic() < end
        time.sleep(0.002)
    return found


def is_ready(asker, slide, prompt):
    return asker.look(slide, prompt, start=False).state == "ready"


def test_a_click_has_three_candidates_the_best_first(asker, entries, discs):
    answered = asker.ask(entries[0].id, asked(middle(discs, 40)), None).result(30)
    told = answer_json(answered, FRAME)
    qualities = [one["quality"] for one in told["candidates"]]
    assert qualities == [0.95, 0.9, 0.5]
    best = told["candidates"][0]
    assert best["area_um2"] == pytest.approx((discs == 40).sum() * 0.25**2, abs=0.01)
    assert told["token"] == best["token"]
    assert (told["mpp"], told["cut"]) == (0.25, False)
    x, y, width, height = told["box"]
    assert (width, height) == (SIDE, SIDE)
    px, py = middle(discs, 40)
    assert x < px < x + width
    assert y < py < y + height


def test_what_is_not_one_point_has_one_candidate(asker, entries, discs):
    x, y = middle(discs, 40)
    for prompt in (asked((x, y), (x + 2, y)), asked(box=(x + 4, y + 4, x - 4, y - 4))):
        assert len(asker.ask(entries[0].id, prompt, None).result(30).candidates) == 1


def test_a_question_goes_on_from_the_candidate_that_is_named(asker, entries, network, discs):
    given = []
    masks = network.masks

    def noting(embedding, prompts, *, multimask=True):
        given.append(prompts.masks)
        return masks(embedding, prompts, multimask=multimask)

    network.masks = noting
    slide, (x, y) = entries[0].id, middle(discs, 40)
    first = asker.ask(slide, asked((x, y)), None).result(30)
    tokens = list(first.candidates)
    second = asker.ask(slide, asked((x, y), (x + 1, y)), tokens[1]).result(30)
    assert given[-1].equal(first.candidates[tokens[1]].logits)
    (token,) = second.candidates
    third = asked((x, y), (x + 1, y), (x, y + 1, 0))
    (token,) = asker.ask(slide, third, token).result(30).candidates
    found = Maker("discs", "0" * 64).accepted(asker.kept(slide, token), FRAME)
    assert found.prompt.steps == ((1, 1), (2, 0), (3, 0))
    assert found.prompt.points == ((x, y, 1), (x + 1, y, 1), (x, y + 1, 0))
    assert (found.model, found.weights, found.mpp) == ("discs", "0" * 12, 0.25)
    asker.ask(slide, asked((x, y + 1), (x + 1, y)), token).result(30)
    assert given[-1] is None, "other points: asked anew"
    asker.ask(entries[1].id, third, token).result(30)
    assert given[-1] is None, "another slide"
    asker.ask(slide, asked((x, y), (x + 1, y), (x + 90, y)), tokens[0]).result(30)
    assert given[-1] is None, "beyond what was seen"


def test_what_was_asked_can_be_asked_again(asker, entries, discs):
    """The steps of an accepted object lead to the same object, by anyone at any time."""
    slide, (x, y) = entries[0].id, middle(discs, 40)
    first = asker.ask(slide, asked((x, y)), None).result(30)
    second = asker.ask(slide, asked((x, y), (x + 1, y)), list(first.candidates)[2]).result(30)
    kept = asker.kept(slide, next(iter(second.candidates)))
    drawn = Maker("discs", "0" * 64).accepted(kept, FRAME)
    with Prompter(entries[0].path, disc_model(SIDE), settings=SETTINGS) as prompter:
        found = None
        for points, number in drawn.prompt.steps:
            prompt = asked(*drawn.prompt.points[:points])
            found = prompter.candidates(prompt, found)[number]
    assert found.outline().equals(kept.found.outline())
    assert found.logits.equal(kept.found.logits)


def test_candidates_are_kept_for_a_while(asker, entries, discs, monkeypatch):
    monkeypatch.setattr(asking, "MOST_KEPT", 3)
    slide = entries[0].id
    old = asker.ask(slide, asked(middle(discs, 40)), None).result(30)
    new = asker.ask(slide, asked(middle(discs, 41)), None).result(30)
    for token in new.candidates:
        assert asker.kept(slide, token).found is new.candidates[token]
    others = [(slide, next(iter(old.candidates))), (entries[1].id, token), (slide, "x")]
    for whose, which in others:
        with pytest.raises(WsiError, match="not kept any more"):
            asker.kept(whose, which)


def test_looks_tell_how_far_they_are(asker, entries, network, discs):
    slide, prompt = entries[0].id, asked(middle(discs, 40))
    network.shut()
    assert asker.look(slide, prompt, start=False).state == "waiting"
    asker.look(slide, prompt, start=True)
    look = until(
        lambda: (told := asker.look(slide, prompt, start=False)).state == "encoding" and told
    )
    assert look.seconds >= 0
    assert look.expected_seconds is None
    network.gate.release()
    until(lambda: is_ready(asker, slide, prompt))
    look = asker.look(slide, prompt, start=True)
    assert look.state == "ready"
    assert look.expected_seconds > 0
    assert look.box == asker.ask(slide, prompt, None).result(30).box
    assert network.saw == network.saw[:1]


def test_the_newest_is_looked_at_first_and_questions_before_all(asker, entries, network):
    slide = entries[0].id
    network.shut()
    corners = [asked((x, y)) for x, y in [(5, 5), (295, 195), (5, 195), (295, 5)]]
    asker.look(slide, corners[0], start=True)
    until(lambda: asker.look(slide, corners[0], start=False).state == "encoding")
    asker.look(slide, corners[1], start=True)
    answer = asker.ask(slide, asked((13, 187)), None)
    asker.look(slide, corners[3], start=True)
    for next_one in (0, 2, 3, 1):
        ready = [is_ready(asker, slide, one) for one in corners]
        assert not ready[next_one]
        network.gate.release()
        until(lambda one=corners[next_one]: is_ready(asker, slide, one))
    assert answer.result(30)
    assert sum(ready) == 3


def test_the_surroundings_are_looked_at_after_a_question_only(
    asker, entries, network, discs, monkeypatch
):
    monkeypatch.setattr(asking, "IDLE_S", 0.01)
    slide, prompt = entries[0].id, asked(middle(discs, 40))
    beside = asked((middle(discs, 40)[0] + 60, middle(discs, 40)[1]))
    asker.look(slide, prompt, start=True)
    until(lambda: is_ready(asker, slide, prompt))
    time.sleep(0.05)
    assert network.looks == 1
    asker.ask(slide, prompt, None).result(30)
    until(lambda: is_ready(asker, slide, beside))
    until(lambda: network.looks == 9)


def test_the_surroundings_wait_for_a_rest_and_for_quick_looks(
    asker, entries, network, discs, monkeypatch
):
    asker.ask(entries[0].id, asked(middle(discs, 40)), None).result(30)
    monkeypatch.setattr(asking, "IDLE_S", 0.0)
    monkeypatch.setattr(asking, "SHORT_S", 0.0)
    asker.ask(entries[0].id, asked(middle(discs, 40)), None).result(30)
    time.sleep(0.05)
    assert network.looks == 1


def test_what_has_no_answer_says_why(asker, entries, discs):
    slide = entries[0].id
    for prompt, why in [
        (asked((5000, 5)), "outside of the slide of 300 x 200 px"),
        (asked((5, 5, 0)), "nothing points at the object"),
        (asked(box=(5, 5, 5, 9)), "has no area"),
    ]:
        with pytest.raises(WsiError, match=why) as caught:
            asker.ask(slide, prompt, None).result(30)
        assert caught.value.reason == "bad-input"
    with pytest.raises(WsiError, match="outside"):
        asker.look(slide, asked((5000, 5)), start=True)
    assert asker.ask(slide, asked(middle(discs, 40)), None).result(30)
    with pytest.raises(Missing):
        asker.ask("0" * 24, asked((5, 5)), None)


def test_a_slide_that_cannot_be_read_fails_alone(asker, entries, discs):
    bad, prompt = entries[2].id, asked((5, 5))
    with pytest.raises(WsiError) as caught:
        asker.ask(bad, prompt, None).result(30)
    assert caught.value.reason == "unreadable"
    look = asker.look(bad, prompt, start=False)
    assert (look.state, look.box) == ("failed", None)
    assert look.message
    asker.look(bad, prompt, start=True)
    until(lambda: asker.look(bad, prompt, start=False).state == "failed")
    assert asker.ask(entries[0].id, asked(middle(discs, 40)), None).result(30)


def test_a_defect_of_the_network_ends_its_question_only(asker, entries, network, discs):
    slide, prompt = entries[0].id, asked(middle(discs, 40))
    good = network.embed

    def broken(views):
        raise KeyError("some/path/on/this/machine")

    network.embed = broken
    with pytest.raises(WsiError) as caught:
        asker.ask(slide, prompt, None).result(30)
    assert caught.value.reason == "internal"
    assert "machine" not in caught.value.message
    assert asker.look(slide, prompt, start=False).state == "failed"
    network.embed = good
    assert asker.ask(slide, prompt, None).result(30)
    assert asker.look(slide, prompt, start=False).state == "ready"


def test_questions_that_nobody_waits_for_are_not_answered(
    asker, entries, network, discs, monkeypatch
):
    monkeypatch.setattr(asking, "MOST_WAITING", 4)
    slide = entries[0].id
    network.shut()
    first = asker.ask(slide, asked((5, 5)), None)
    until(lambda: asker.look(slide, asked((5, 5)), start=False).state == "encoding")
    given_up = asker.ask(slide, asked((295, 195)), None)
    assert given_up.cancel()
    wanted = [asker.ask(slide, asked((295, 5)), None) for _ in range(asking.MOST_WAITING - 1)]
    with pytest.raises(WsiError, match="too many questions") as caught:
        asker.ask(slide, asked((5, 5)), None)
    assert caught.value.reason == "busy"
    assert first.cancel()
    network.gate.release(1000)
    for one in wanted:
        assert isinstance(one.exception(30), WsiError | None)
    with pytest.raises(CancelledError):
        given_up.result(0)


def test_a_model_that_does_not_load_is_said(entries):
    def missing(settings):
        raise WsiError("bad-model", "there is no model 'discs'")

    told = []
    asker = Asker(Shelf(entries, ViewSettings()), SETTINGS, missing, tell=told.append)
    slide, prompt = entries[0].id, asked((5, 5))
    until(lambda: asker.look(slide, prompt, start=True).state == "failed")
    assert asker.look(slide, prompt, start=False).message == "there is no model 'discs'"
    with pytest.raises(WsiError, match="no model 'discs'"):
        asker.ask(slide, prompt, None)
    asker.close()
    assert told == ["clicks are not answered: bad-model: there is no model 'discs'"]


def test_the_end_waits_for_what_is_being_done(entries, monkeypatch):
    monkeypatch.setattr(asking, "_PATIENCE_S", 0.01)
    loading, told = threading.Event(), []

    def load(settings):
        assert loading.wait(30)
        return disc_model(SIDE)

    def tell(what):
        told.append(what)
        loading.set()

    asker = Asker(Shelf(entries, ViewSettings()), SETTINGS, load, tell=tell)
    asker.close()
    assert told == ["the model is busy; wsi-view ends as soon as it is done"]
    assert not asker._thread.is_alive()


def test_a_question_waits_for_the_model(entries, discs):
    loading = threading.Event()

    def load(settings):
        assert loading.wait(30)
        return disc_model(SIDE)

    asker = Asker(Shelf(entries, ViewSettings()), SETTINGS, load)
    prompt = asked(middle(discs, 40))
    look = asker.look(entries[0].id, prompt, start=True)
    assert (look.state, look.message) == ("waiting", "the model is being loaded")
    answer = asker.ask(entries[0].id, prompt, None)
    assert asker.model is None
    loading.set()
    assert len(answer.result(30).candidates) == 3
    asker.close()
    with pytest.raises(WsiError, match="being closed"):
        asker.ask(entries[0].id, prompt, None)


def test_one_slide_at_a_time_is_open_for_the_model(asker, entries, network, discs):
    for number in (0, 1, 0):
        place = middle(np.roll(discs, 7 * number, axis=1), 40)
        asker.ask(entries[number].id, asked(place), None).result(30)
    assert asker._prompter[0] == entries[0].id
    # What was seen stays, whichever slide was looked at in between.
    assert is_ready(asker, entries[1].id, asked(middle(np.roll(discs, 7, axis=1), 40)))
