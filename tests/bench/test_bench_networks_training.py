"""What shapes of networks cost: CPU time to learn from a picture, and to label one in eight bits."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from daemon.vision.onnx_file import read_onnx
from daemon.vision.segmenter import Hardware, load_model
from drivers.vivarium.snapshot import random_scene
from export.checkpoint_card import card_of_network
from export.onnx import export_onnx
from export.quantize import quantize
from training.checkpoints import RECIPE_KEY, load
from training.learning import Learning
from training.material import FIRST_VALIDATION_SEED
from training.recipe import SMALL, TINY, Kind, Preset, Recipe, changed, preset, recipe_to_json
from training.scenes import SceneSource
from training.synthetic import FixedPictures, SceneStream, Stream
from training.unet import Enlarging, UNetShape

STEPS = 5
RUNS = 60

SHAPES = {
    "shipped": SMALL,
    "full resolution": replace(SMALL, widths=(16, 32, 64, 128, 128), stem=1),
    "narrower": replace(SMALL, widths=(24, 48, 96, 160, 192)),
    "wider in the depth": replace(SMALL, widths=(32, 64, 128, 256, 384)),
    "two layers at the finest level": replace(SMALL, encoder_convolutions=(2,)),
    "one layer at the finest level": replace(SMALL, decoder_convolutions=(1,)),
    "transposed convolutions": replace(SMALL, enlarging=Enlarging.TRANSPOSED),
    "tiny, of the quick preset": TINY,
}
"""All with three views of the degrees; the second like the U-Net without a stem that was tried first."""


def _recipe(shape: UNetShape, kind: Kind = Kind.UNET) -> Recipe:
    return changed(preset(Preset.FULL, kind), shape=shape)


def _learning_ms(recipe: Recipe) -> float:
    """CPU time of a step per picture, one thread, bfloat16."""
    torch.set_num_threads(1)
    pictures = FixedPictures(SceneSource(FIRST_VALIDATION_SEED, recipe.batch), stride=recipe.shape.stem)
    batch = default_collate([pictures[index] for index in range(recipe.batch)])
    learning = Learning(recipe)
    optimizer = torch.optim.AdamW(learning.parameters(), 1e-4)
    spent = []
    for _ in range(STEPS):
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            loss = torch.stack(list(learning.losses(batch, whole=False).values())).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        spent.append(time.process_time() - start)
    return 1e3 * float(np.median(spent)) / recipe.batch


def _labelling_ms(recipe: Recipe, folder: Path) -> tuple[float, float]:
    """Shortest time on one picture with two threads in eight bits, and the file's megabytes; weights are random."""
    learning = Learning(recipe)
    checkpoint = folder / "random.ckpt"
    torch.save({"state_dict": learning.state_dict(), RECIPE_KEY: recipe_to_json(recipe)}, checkpoint)
    network = load(checkpoint)
    floats, eight = folder / "float.onnx", folder / "int8.onnx"
    export_onnx(network, card_of_network(network, checkpoint, epochs=0), floats)
    scenes = [random_scene(FIRST_VALIDATION_SEED + number) for number in range(4)]
    quantize(floats, eight, calibration=[scene.celsius for scene in scenes], validation=scenes)
    assert read_onnx(eight).metadata
    model, batch = load_model(eight, Hardware(provider="cpu")), scenes[0].celsius[np.newaxis].copy()
    spent = []
    for _ in range(RUNS):
        start = time.perf_counter()
        model.run(batch)
        spent.append(time.perf_counter() - start)
    return 1e3 * min(spent), eight.stat().st_size / 1e6


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_shapes_of_networks_cost(tmp_path: Path) -> None:
    print("shape | weights | learning, ms of CPU a picture | labelling in int8, ms | MB")  # noqa: T201
    for name, shape in SHAPES.items():
        for kind in Kind if name == "shipped" else (Kind.UNET,):
            recipe = _recipe(shape, kind)
            weights = sum(weight.numel() for weight in Learning(recipe).parameters())
            labelling, size = _labelling_ms(recipe, tmp_path)
            print(  # noqa: T201
                f"{name} ({kind}) | {weights / 1e6:.2f} M | {_learning_ms(recipe):.1f} | {labelling:.1f} | {size:.2f}"
            )
            assert labelling > 0


@pytest.mark.slow
def test_what_pictures_cost() -> None:
    recipe = preset(Preset.FULL, Kind.PANOPTIC)
    stream = SceneStream(Stream(pictures_per_epoch=200, stride=recipe.shape.stem, uses=recipe.scene_uses))
    start = time.process_time()
    made = sum(1 for _ in stream)
    print(f"{1e3 * (time.process_time() - start) / made:.1f} ms of CPU to make and augment a picture")  # noqa: T201
    recipes = {"windows": recipe, "whole pictures": changed(recipe, cut_px=None)}
    for name, one in recipes.items():
        print(f"{_learning_ms(one):.1f} ms of CPU to learn from a picture, {name}")  # noqa: T201
    assert made == 200
