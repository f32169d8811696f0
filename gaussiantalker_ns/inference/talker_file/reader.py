"""Reading a talker file: everything in it is checked before it is used."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gaussiantalker_ns.audio.articulation import NUM_COMPONENTS
from gaussiantalker_ns.data.conditions import FrameConditions
from gaussiantalker_ns.fields.talking_head import TalkingHead, with_audio_window
from gaussiantalker_ns.inference.provenance import Origin
from gaussiantalker_ns.inference.talker_file import webp
from gaussiantalker_ns.inference.talker_file.archive import members_of, read_archive, wrong
from gaussiantalker_ns.inference.talker_file.packed_model import (
    BLENDSHAPE_EYE,
    BLINK_EYE,
    PackedLayers,
    PackedModel,
    packed_conditions,
    packed_head,
)
from gaussiantalker_ns.inference.talker_file.schema import (
    BACKGROUND,
    DESCRIPTION,
    PICTURE,
    TENSORS,
    Description,
    read_description,
    torso_name,
)
from gaussiantalker_ns.inference.talker_file.tensors import Shapes, read_tensors

NETWORK, STATISTICS, GAUSSIANS = "network.", "statistics.", "gaussians."
"""What the names of tensors begin with, by the part that they belong to."""

CODE_NETWORKS = STATISTICS + "speech_codes.code."
"""What the names of the networks from speech to the articulation code begin with."""

POSES, EYE = "track.T_camera_head", "track.eye"
"""Names of the tensors of the motion track."""

NOT_IN_NETWORK = ("gauss_params.", "triplane.", "mouth_border")
"""Entries of the head's state that a file holds otherwise, or not at all."""

SILENCE_STATE = "silence_features"
"""The statistics' windows of silence, of which a file holds the mean alone."""

ROTATION_TOLERANCE = 1e-2
"""Largest entry of R^T R - 1 in a pose that counts as rigid."""


@dataclass(frozen=True)
class TalkerFile:
    """A talker that was read from a file."""

    model: PackedModel
    path: Path
    description: Description
    sha256: str
    """Checksum of the file."""
    part_bytes: dict[str, int]
    """Part -> its bytes."""
    picture: memoryview
    """What the talker looks like: a WebP of the talker's size."""

    @property
    def method(self) -> str:
        """Name of the method, such as gaussiantalker-cpu."""
        return self.description.method

    @property
    def step(self) -> int:
        """Training step of the checkpoint."""
        return self.description.step

    def origin(self) -> Origin:
        """Checksums and consent, for the record in a video."""
        source = self.description.source
        return Origin(
            checkpoint=source.checkpoint,
            checkpoint_sha256=source.checkpoint_sha256,
            dataset_sha256=source.dataset_sha256,
            consent=self.description.consent,
            talker_sha256=self.sha256,
        )


def read_talker(path: Path, device: torch.device | str = "cpu") -> TalkerFile:
    """Read a talker file.

    Raises:
        FileNotFoundError: There is no such file.
        TalkerFileError: It is no talker file, is damaged, or is of a newer version.
    """
    path = Path(path)
    data = read_archive(path)
    members = members_of(data, path)
    if DESCRIPTION not in members:
        raise wrong(path, f"holds no {DESCRIPTION}")
    description = read_description(members[DESCRIPTION], path)
    check_members(members, description, path)
    model = build_model(members, description, path)
    return TalkerFile(
        model=model.eval().to(device),
        path=path,
        description=description,
        sha256=hashlib.sha256(data).hexdigest(),
        part_bytes=part_sizes(members),
        picture=members[PICTURE],
    )


def check_members(members: dict[str, memoryview], description: Description, path: Path) -> None:
    """Check that a file holds what its description needs, in pictures of the right sizes.

    Raises:
        TalkerFileError: Something is missing, is too much, or has another size.
    """
    has_torsos = description.torso_mode == "layer"
    torsos = [torso_name(frame) for frame in range(description.num_frames)] if has_torsos else []
    wanted = {DESCRIPTION, TENSORS, BACKGROUND, PICTURE, *torsos}
    for name in sorted(wanted ^ set(members)):
        state = "lacks" if name in wanted else "holds, and should not,"
        raise wrong(path, f"{state} {name}")
    size = description.size
    for name in (BACKGROUND, PICTURE):
        webp.check_sides(members[name], size, range(size, size + 1), name, path)
    for name in torsos:
        webp.check_sides(members[name], size, range(1, size + 1), name, path)


def build_model(
    members: dict[str, memoryview], description: Description, path: Path
) -> PackedModel:
    """Build the model of a file whose members and description were checked.

    Raises:
        TalkerFileError: The tensors or the background are not what the description says.
    """
    shapes = expected_shapes(description, path)
    tensors = read_tensors(members[TENSORS], shapes, halved_names(shapes, description), path)
    check_poses(tensors[POSES], path)
    background = webp.decode(members[BACKGROUND], 3, BACKGROUND, path)
    frames = range(description.num_frames) if description.torso_mode == "layer" else ()
    layers = PackedLayers(background, [members[torso_name(frame)] for frame in frames], path)
    bank = packed_conditions(
        description.audio,
        description.eye_form,
        description.viewpoint_gain,
        tensors[POSES],
        tensors[EYE],
        description.articulation,
    )
    bank.load_state_dict({**bank.state_dict(), **part_of(tensors, STATISTICS)})
    if description.audio.knows_silence:
        # Not by `load_state_dict`, which keeps half of the digits.
        bank.silence_features = tensors["silence"][None, None]
    head = empty_head(description, part_of(tensors, GAUSSIANS), tensors["mouth_border"])
    state = part_of(tensors, NETWORK)
    rest = {name: v for name, v in head.state_dict().items() if name.startswith(NOT_IN_NETWORK)}
    planes = {name: torch.zeros(v.shape) for name, v in rest.items() if v.is_meta}
    head.load_state_dict({**rest, **planes, **state}, assign=True)
    head.requires_grad_(False)
    return PackedModel(description, tensors["features"], layers, bank, head)


def empty_head(
    description: Description, gaussians: dict[str, Tensor], mouth_border: Float[Tensor, "2"]
) -> TalkingHead:
    """The network of a description, without weights."""
    eye_size = BLENDSHAPE_EYE if description.eye_form == "expression" else BLINK_EYE
    context, shape = description.audio.context_frames, description.audio.window_shape
    if description.articulation is not None:
        context, shape = 1, (1, NUM_COMPONENTS)
    config = with_audio_window(description.head, context)
    return packed_head(config, gaussians, mouth_border, shape, eye_size)


def expected_shapes(description: Description, path: Path) -> Shapes:
    """The tensors of a talker, found without memory for them.

    Raises:
        TalkerFileError: There is no such network.
    """
    count, frames = description.num_gaussians, description.num_frames
    bases = (description.head.sh_degree + 1) ** 2
    gaussians = {
        "means": (count, 3),
        "scales": (count, 3),
        "quats": (count, 4),
        "features_dc": (count, 3),
        "features_rest": (count, bases - 1, 3),
        "opacities": (count, 1),
    }
    one = {name: torch.zeros(1, *shape[1:]) for name, shape in gaussians.items()}
    try:
        head = empty_head(description, one, torch.tensor([0.0, 1.0]))
    # Sizes that do not go together, such as a width that the heads do not divide, or no layers.
    except (ValueError, RuntimeError, LookupError, ArithmeticError, AssertionError) as error:
        raise wrong(path, f"describes no network ({error})") from error
    eye_size = BLENDSHAPE_EYE if description.eye_form == "expression" else BLINK_EYE
    network = {
        NETWORK + name: tuple(value.shape)
        for name, value in head.state_dict().items()
        if not name.startswith(NOT_IN_NETWORK)
    }
    return {
        **{GAUSSIANS + name: shape for name, shape in gaussians.items()},
        "features": (count, head.triplane.out_dim),
        "mouth_border": (2,),
        **network,
        **{STATISTICS + name: shape for name, shape in statistics_shapes(description).items()},
        POSES: (frames, 4, 4),
        EYE: (frames, eye_size),
        **({"silence": description.audio.window_shape} if description.audio.knows_silence else {}),
    }


def statistics_shapes(description: Description) -> Shapes:
    """Shapes of what standardises the signals, from the conditions of a track of one frame."""
    eye_size = BLENDSHAPE_EYE if description.eye_form == "expression" else BLINK_EYE
    bank = packed_conditions(
        description.audio,
        description.eye_form,
        1.0,
        torch.eye(4)[None],
        torch.zeros(1, eye_size),
        description.articulation,
    )
    return {name: tuple(value.shape) for name, value in statistics_of(bank).items()}


def statistics_of(bank: FrameConditions) -> dict[str, Tensor]:
    """What standardises the signals of a model, by name."""
    return {
        name: value
        for name, value in bank.state_dict().items()
        if isinstance(value, Tensor) and name != SILENCE_STATE
    }


def halved_names(shapes: Shapes, description: Description) -> set[str]:
    """The tensors that are stored as float16: none, or networks, features, colours and shapes."""
    if description.precision == "float32":
        return set()
    exact = GAUSSIANS + "means"
    return {
        name
        for name in shapes
        if name == "features"
        or name.startswith(CODE_NETWORKS)
        or (name.startswith((NETWORK, GAUSSIANS)) and name != exact)
    }


def part_of(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of a part, without the prefix."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def check_poses(T_camera_head: Float[Tensor, "m 4 4"], path: Path) -> None:
    """Check that poses are rigid.

    Raises:
        TalkerFileError: One of them is not.
    """
    R = T_camera_head[:, :3, :3]
    error = (R.mT @ R - torch.eye(3)).abs().amax()
    last = T_camera_head[:, 3] - torch.tensor([0.0, 0.0, 0.0, 1.0])
    rigid = float(error) < ROTATION_TOLERANCE and float(last.abs().amax()) < ROTATION_TOLERANCE
    if not rigid or not bool((torch.linalg.det(R) > 0).all()):
        raise wrong(path, f"holds {POSES} with poses that are not rigid")


def part_sizes(members: dict[str, memoryview]) -> dict[str, int]:
    """Part -> its bytes, the torso layers together."""
    sizes = {name: len(members[name]) for name in (DESCRIPTION, TENSORS, BACKGROUND, PICTURE)}
    torsos = [len(data) for name, data in members.items() if name.startswith("torso/")]
    return {**sizes, "torso": sum(torsos)} if torsos else sizes
