"""What a WSI-SAM says on the way to its answer, by the names under which it was recorded."""

from wsi_sampath.models.parts.encoders import resized

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SIDES = ("hr", "lr")


def spec_of(kind, encoder, **changes):
    values = {"name": "test", "mpp": 1, "sam": encoder, **changes}
    colours = {"mean": [one / 255 for one in MEAN], "std": [one / 255 for one in STD]}
    return kind.model_validate(values | colours)


def everything(model, views, near):
    """All of it, for the views of both resolutions and prompts of the high one, on the CPU."""
    looks, prompts = model.look(views), (near, model.in_low(near))
    said: dict = {}
    hooks = []
    for side, part, look, prompt in zip(
        SIDES, (model.high, model.low), looks, prompts, strict=True
    ):
        said[f"{side}/early_feature"] = look.early.permute(0, 2, 3, 1)
        said[f"{side}/embedding"] = look.features
        said[f"{side}/sparse"] = model.sam.encoded(prompt)[0]
        for name, module in (("token", part.hf_mlp), ("feature", part.embedding_maskfeature)):
            hook = module.register_forward_hook(
                lambda _m, _i, out, name=f"{side}/{name}": said.update({name: out})
            )
            hooks.append(hook)
    pair = model.paired_logits(looks, *prompts)
    for hook in hooks:
        hook.remove()
    fused = [part.fused(look) for part, look in zip((model.high, model.low), looks, strict=True)]
    for side, logits, static in zip(SIDES, pair, fused, strict=True):
        said[f"{side}/wsi_logits_256"] = logits
        said[f"{side}/token"] = said[f"{side}/token"][None]
        said[f"{side}/feature"] = said[f"{side}/feature"] + static
    embedding = (looks[0].features, looks[1].features, fused[0])
    answer, _ = model.masks(embedding, near, multimask=False)
    said["hr/final_logits_256"] = answer
    said["hr/final_logits_1024"] = resized(answer, 1024)
    said["hr/sam_logits_256"] = answer - pair[0]
    return {name: tensor.cpu() for name, tensor in said.items()}
