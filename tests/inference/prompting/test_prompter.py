"""Point at discs of a slide, and get these discs."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import shapely
import torch
from prompt_stub import DiscNetwork, disc_model, disc_picture, write_discs

from wsi_sampath.errors import UsageError
from wsi_sampath.inference.prompting.embeddings import EmbeddingCache
from wsi_sampath.inference.prompting.prompter import Prompter
from wsi_sampath.inference.prompting.questions import Unanswerable, click
from wsi_sampath.inference.prompting.segmented import Segmented
from wsi_sampath.inference.prompting.settings import PromptSettings
from wsi_sampath.models.checkpoints import build_model
from wsi_sampath.models.network import LoadedModel
from wsi_sampath.models.parse import parse_spec
from wsi_sampath.models.spec import ModelSpec
from wsi_sampath.prompt_files.prompt import Prompt
from wsi_sampath.slides import overview

SIDE = 96
CPU = PromptSettings(device="cpu", smallest_part=0.0, cache_gib=0.0)


@pytest.fixture(scope="module")
def discs():
    return disc_picture(200, 300)


@pytest.fixture(scope="module")
def slide(discs, tmp_path_factory):
    return write_discs(tmp_path_factory.mktemp("discs") / "discs.tiff", discs)


@pytest.fixture
def network():
    return DiscNetwork()


@pytest.fixture
def prompter(slide, network):
    with Prompter(slide, disc_model(SIDE, network=network), settings=CPU) as prompter:
        yield prompter


def click_on(discs, number):
    y, x = (round(places.mean()) for places in np.nonzero(discs == number))
    return click(x + 0.5, y + 0.5)


def disc_of(answer, discs):
    found = np.zeros(discs.shape, bool)
    found[answer.mask.box] = answer.mask.pixels
    return found


def visible(discs):
    counts = np.bincount(discs.ravel())
    whole = [
        number
        for number in range(1, len(counts))
        if counts[number] > 60 and discs[tuple(map(round, middle(discs, number)))] == number
    ]
    return whole[::2]


def middle(discs, number):
    return tuple(places.mean() for places in np.nonzero(discs == number))


def test_every_disc_is_found_by_a_click(prompter, discs):
    for number in visible(discs):
        answer = prompter.ask(click_on(discs, number))
        assert np.array_equal(disc_of(answer, discs), discs == number)
        assert answer.quality == pytest.approx(0.95)
        assert answer.mpp == (0.25, 0.25)
        assert not answer.is_cut


def test_answers_do_not_depend_on_their_company(slide, discs):
    """Any order, any number at once, whatever is kept: the same masks."""
    numbers = visible(discs)
    alone = {}
    for number in numbers[::4]:
        with Prompter(slide, disc_model(SIDE), settings=CPU) as fresh:
            alone[number] = fresh.ask(click_on(discs, number))
    for seed in range(2):
        order = random.Random(seed).sample(numbers, len(numbers))
        cache = EmbeddingCache(memory_bytes=seed * 120_000)
        with Prompter(slide, disc_model(SIDE), settings=CPU, cache=cache) as shared:
            together = {
                order[index]: answer
                for index, answer in shared.answers([click_on(discs, one) for one in order])
            }
        assert set(together) == set(numbers)
        for number, answer in alone.items():
            assert np.array_equal(together[number].mask.pixels, answer.mask.pixels)
            assert together[number].square == answer.square
            assert together[number].logits.equal(answer.logits)


def test_a_square_is_looked_at_once(prompter, network, discs):
    prompts = [click_on(discs, number) for number in visible(discs)]
    squares = {prompter.place(prompt) for prompt in prompts}
    answers = list(prompter.answers(prompts))
    assert len(answers) == len(prompts)
    assert network.looks == len(squares) == prompter.cache.made
    list(prompter.answers(prompts))
    assert network.looks == len(squares)


def test_a_folder_serves_another_run(slide, discs, tmp_path):
    settings = CPU.model_copy(update={"cache": tmp_path, "cache_gib": 1.0, "memory_gib": 0.0})
    prompts = [click_on(discs, number) for number in visible(discs)[:20]]
    first, second = DiscNetwork(), DiscNetwork()
    found = []
    for network in (first, second):
        with Prompter(slide, disc_model(SIDE, network=network), settings=settings) as prompter:
            found.append([answer.logits for _, answer in prompter.answers(prompts)])
    assert first.looks > 0 == second.looks
    assert all(one.equal(other) for one, other in zip(*found, strict=True))


def test_another_slide_is_not_taken_for_this_one(slide, discs, tmp_path):
    settings = CPU.model_copy(update={"cache": tmp_path / "cache", "cache_gib": 1.0})
    other = write_discs(tmp_path / "other.tiff", np.roll(discs, 13, axis=1))
    for path, picture in ((slide, discs), (other, np.roll(discs, 13, axis=1))):
        with Prompter(path, disc_model(SIDE), settings=settings) as prompter:
            number = visible(picture)[20]
            answer = prompter.ask(click_on(picture, number))
        assert np.array_equal(disc_of(answer, picture), picture == number)


def test_what_is_larger_than_a_square_is_answered_at_a_coarser_mpp(prompter, discs):
    answer = prompter.ask(Prompt(id="", box=(40, 30, 100, 90)))
    assert answer.square.factor == 2
    assert answer.mpp == (0.5, 0.5)
    assert answer.zoom == (2, 2)


@pytest.mark.parametrize("side", [37, 47, 75, 96])
def test_a_box_as_large_as_the_slide_is_answered(side, tmp_path):
    picture = disc_picture(side, side - 7)
    path = write_discs(tmp_path / "small.tiff", picture)
    with Prompter(path, disc_model(SIDE), settings=CPU) as prompter:
        square = prompter.place(Prompt(id="", box=(0, 0, side - 7, side)))
        assert (square.y, square.x) == (0, 0)
        assert square.factor == (2 if side <= 72 else 4)


def test_corrections_go_on_in_the_same_square(prompter, network, discs):
    network.given = []
    answer_masks = network.masks

    def masks(embedding, prompts, *, multimask=True):
        network.given.append((prompts, multimask))
        return answer_masks(embedding, prompts, multimask=multimask)

    network.masks = masks
    answer = prompter.ask(click_on(discs, visible(discs)[15]))
    place = answer.prompt.points[0]
    better = prompter.correct(answer, place + [2, 0], [0])
    (first, several), (second, one) = network.given
    assert (several, one) == (True, False)
    assert first.masks is None
    assert second.masks.equal(answer.logits)
    assert second.labels.tolist() == [[1, 0]]
    assert (second.points[0, 1] - second.points[0, 0]).tolist() == [2, 0]
    assert better.square == answer.square


@pytest.mark.parametrize("point", [(290, 190), (-1, 5), (float("nan"), 5)])
def test_corrections_beyond_the_square_are_refused(prompter, discs, point):
    answer = prompter.ask(click_on(discs, visible(discs)[0]))
    with pytest.raises(Unanswerable, match="beyond what was seen"):
        prompter.correct(answer, [point], [1])


@pytest.mark.parametrize("labels", [[2], [1, 0], []])
def test_corrections_need_a_label_each(prompter, discs, labels):
    answer = prompter.ask(click_on(discs, visible(discs)[0]))
    with pytest.raises(ValueError, match="a label each"):
        prompter.correct(answer, [(20, 15)], labels)


@pytest.mark.parametrize(("pick", "share"), [("largest", 8), ("smallest", 0.9)])
def test_candidates_are_picked(slide, discs, pick, share):
    settings = CPU.model_copy(update={"pick": pick})
    number = visible(discs)[15]
    with Prompter(slide, disc_model(SIDE), settings=settings) as prompter:
        area = prompter.ask(click_on(discs, number)).mask.area
    whole = (discs == number).sum()
    assert area > share * whole if pick == "largest" else area < share * whole


@pytest.mark.parametrize("pick", ["best", "largest", "smallest"])
def test_candidates_begin_with_the_answer(slide, discs, pick):
    settings = CPU.model_copy(update={"pick": pick})
    prompt = click_on(discs, visible(discs)[15])
    with Prompter(slide, disc_model(SIDE), settings=settings) as prompter:
        answer, found = prompter.ask(prompt), prompter.candidates(prompt)
        boxed = prompter.candidates(Prompt(id="", box=(*(prompt.points[0] - 4), *prompt.points[0])))
    assert np.array_equal(found[0].mask.pixels, answer.mask.pixels)
    assert found[0].logits.equal(answer.logits)
    areas = [one.mask.area for one in found]
    assert len(set(areas)) == 3
    assert [one.quality for one in found] == pytest.approx(
        {"best": [0.95, 0.9, 0.5], "largest": [0.5, 0.95, 0.9], "smallest": [0.9, 0.95, 0.5]}[pick]
    )
    assert len(boxed) == (1 if pick == "best" else 3)


def test_candidates_without_a_pixel_are_left_out(prompter, network, discs):
    prompt = click_on(discs, visible(discs)[15])
    masks, empty = network.masks, [1]

    def fewer(embedding, prompts, *, multimask=True):
        logits, quality = masks(embedding, prompts, multimask=multimask)
        logits[:, empty] = -8
        return logits, quality

    network.masks = fewer
    assert [one.quality for one in prompter.candidates(prompt)] == pytest.approx([0.95, 0.5])
    empty[:] = [0, 1, 2]
    with pytest.raises(Unanswerable, match="sees nothing there"):
        prompter.candidates(prompt)


def test_candidates_go_on_from_an_earlier_answer(prompter, network, discs):
    answer = prompter.candidates(click_on(discs, visible(discs)[15]))[1]
    place = answer.prompt.points[0]
    corrected = prompter.correct(answer, [place + [2, 0]], [1])
    (again,) = prompter.candidates(corrected.prompt, answer)
    assert np.array_equal(again.mask.pixels, corrected.mask.pixels)
    beyond = replace(
        answer.prompt, points=np.vstack([place, [290, 190]]), labels=np.array([1, 1], int)
    )
    with pytest.raises(Unanswerable, match="beyond what was seen"):
        prompter.candidates(beyond, answer)


def test_a_square_is_looked_at_with_what_was_read_for_it(prompter, network, discs):
    prompt, read = click_on(discs, visible(discs)[15]), []

    def told():
        read.append(network.looks)
        return prompter.read(prompter.place(prompt))

    prompter.look(prompter.place(prompt), told)
    prompter.look(prompter.place(prompt), told)
    assert read == [0]
    prompter.ask(prompt)
    assert network.looks == 1


def test_masks_that_a_square_cuts_say_so(slide, discs):
    settings = CPU.model_copy(update={"pick": "largest"})
    with Prompter(slide, disc_model(SIDE), settings=settings) as prompter:
        assert prompter.ask(click_on(discs, visible(discs)[20])).is_cut


def test_failures_stay_with_their_prompts(prompter, discs):
    outside = click(5000, 5)
    good = click_on(discs, visible(discs)[3])
    found = dict(prompter.answers([outside, good, outside]))
    assert isinstance(found[1], Segmented)
    for index in (0, 2):
        assert isinstance(found[index], Unanswerable)
        assert "outside of the slide of 300 x 200 px" in str(found[index])
    with pytest.raises(Unanswerable, match="outside"):
        prompter.ask(outside)


def test_an_empty_mask_is_no_answer(prompter):
    prompter.settings = prompter.settings.model_copy(update={"pick": "best"})
    outline = shapely.box(10, 10, 60, 60)

    def nothing(embedding, prompts, *, multimask=True):
        logits, quality = DiscNetwork().masks(embedding, prompts, multimask=multimask)
        return logits * 0 - 1, quality

    prompter.model.module.masks = nothing
    with pytest.raises(Unanswerable, match="sees nothing there"):
        prompter.ask(Prompt(id="", outline=outline))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", [0, 1])
def test_an_answer_that_is_not_finite_is_none(prompter, network, discs, part, bad):
    answer = network.masks

    def masks(embedding, prompts, *, multimask=True):
        found = [one.clone() for one in answer(embedding, prompts, multimask=multimask)]
        found[part].view(-1)[0] = bad
        return tuple(found)

    network.masks = masks
    with pytest.raises(Unanswerable, match="not finite"):
        prompter.ask(click_on(discs, visible(discs)[3]))


def test_regions_are_looked_at_beforehand(prompter, network, discs):
    squares = prompter.squares_of((100, 60, 150, 120))
    assert all(prompter.precompute(squares))
    looks = network.looks
    assert looks == len(squares)
    for number in visible(discs):
        y, x = middle(discs, number)
        if 100 < x < 250 and 60 < y < 180:
            prompter.ask(click_on(discs, number))
    assert network.looks == looks
    assert len(prompter.squares_of(None)) > len(squares)


def test_prompts_up_to_the_edge_of_a_region_were_looked_at(slide):
    settings = CPU.model_copy(update={"mpp": 0.3})
    with Prompter(slide, disc_model(SIDE), settings=settings) as prompter:
        for edge in np.arange(195, 210, 0.25):
            seen = prompter.squares_of((90, 10, edge - 90, 10))
            assert prompter.place(click(edge - 1e-6, 15)) in seen


def test_a_square_far_from_its_level_is_read_in_parts(slide, monkeypatch):
    with Prompter(slide, disc_model(SIDE), settings=CPU) as prompter:
        prompt = Prompt(id="", box=(0, 0, 300, 200))
        before = prompter.ask(prompt)
        areas = []
        read = prompter.slide.reader.read

        def counted(level, x, y, width, height):
            areas.append(width * height)
            return read(level, x, y, width, height)

        monkeypatch.setattr(prompter.slide.reader, "read", counted)
        monkeypatch.setattr(overview, "_BAND_PIXELS", 1 << 14)
        prompter.cache = EmbeddingCache()
        after = prompter.ask(prompt)
        assert len(areas) > 8
        assert max(areas) <= 1 << 14
        assert after.logits.equal(before.logits)


def test_models_without_prompts_are_refused(slide, stub):
    with pytest.raises(UsageError, match="answers no prompts; use a SAM"):
        Prompter(slide, stub, settings=CPU)


def test_outlines_are_in_pixels_of_the_slide(prompter, discs):
    number = visible(discs)[16]
    outline = prompter.ask(click_on(discs, number)).outline()
    y, x = middle(discs, number)
    assert outline.is_valid
    assert outline.area == (discs == number).sum()
    assert outline.centroid.distance(shapely.Point(x + 0.5, y + 0.5)) < 1e-9


class TwoViews(DiscNetwork):
    """Looks at two resolutions, and answers by the first."""

    def embed(self, views):
        self.views = [view[0].permute(1, 2, 0).numpy().astype(np.uint8) for view in views]
        return super().embed(views[:1])


class TwoViewSpec(ModelSpec):
    views: ClassVar[tuple[float, ...]] = (1.0, 2.0)


@pytest.mark.parametrize("place", [(150.5, 100.5), (4, 3), (297, 198)])
def test_a_second_view_is_of_twice_the_mpp_around_the_same_middle(slide, place):
    model = disc_model(SIDE, network=TwoViews())
    spec = TwoViewSpec(**{name: getattr(model.spec, name) for name in ModelSpec.model_fields})
    with Prompter(slide, replace(model, spec=spec), settings=CPU) as prompter:
        square = prompter.place(click(*place))
        list(prompter.precompute([square]))
    near, far = model.module.views
    halved = near.reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean(axis=(1, 3))
    quarter = slice(SIDE // 4, SIDE // 4 + SIDE // 2)
    assert np.abs(halved - far[quarter, quarter]).max() <= 1


SMALL_SAM = {"embed_dim": 16, "depth": 1, "num_heads": 2, "global_attn_indexes": [0]}
SMALL_PROMPTS = {"dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 16}
NETWORKS = {
    "patches of 8 px": {"architecture": "patho_sam", "sam": {**SMALL_SAM, "patch": 8}},
    "enlarged twice": {"architecture": "patho_sam", "sam": SMALL_SAM, "enlargement": 2},
    "SAM": {"architecture": "sam", "sam": SMALL_SAM},
    "WSI-SAM": {"architecture": "wsi_sam", "sam": SMALL_SAM},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_network_takes_every_kind_of_prompt(slide, name):
    values = {"name": "small", "mpp": 0.25, "tile": 64, "prompts": SMALL_PROMPTS, **NETWORKS[name]}
    if values["architecture"] == "patho_sam":
        classes = [{"name": "nucleus", "color": "#c83232"}]
        values |= {"enlargement": 1, "decoder": {"widths": [8, 8, 4, 4]}, "classes": classes}
        values |= NETWORKS[name]
    torch.manual_seed(0)
    module = build_model(parse_spec(values))
    model = LoadedModel(module.eval(), module.spec, "0" * 64, "small")
    side = 4 * model.spec.grid
    outline = shapely.Point(150, 100).buffer(9)
    drawn = Prompt(id="", outline=outline, points=np.array([[150.0, 100.0]]), labels=np.array([1]))
    prompts = [click(150, 100), Prompt(id="", box=(140, 90, 160, 110)), drawn]
    with Prompter(slide, model, settings=CPU) as prompter:
        found = dict(prompter.answers(prompts))
        for one in found.values():
            if isinstance(one, Segmented):
                assert one.logits.shape == (1, 1, side, side)
                prompter.correct(one, [[155.0, 104.0]], [0])
    assert set(found) == {0, 1, 2}
    assert all("sees nothing" in str(one) or one.mask.area for one in found.values())
