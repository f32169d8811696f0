"""The conditions of every frame of a clip, standardised the way the model was trained.

The statistics travel with the checkpoint; the clip's own signals come with the data set. A frame is
asked for by its number; overrides replace single signals of its `FrameCondition`. It has more than 300 lines, because
all of it is the state of one module in checkpoints.
"""

import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gaussiantalker_ns.audio.articulation import ArticulationConfig
from gaussiantalker_ns.data.eye_signal import (
    EyeForm,
    column_std,
    expression_with_blink,
    eye_statistics,
    raw_eye_signal,
)
from gaussiantalker_ns.data.speech_codes import SpeechCodes
from gaussiantalker_ns.frame_signals import ConditionTrack, FrameCondition, Overrides, flatten_pose
from gaussiantalker_ns.timebase import context_offsets, ping_pong

REMEDIES = {
    "audio_encoder": "Name the checkpoint's encoder with --pipeline.datamanager.dataparser."
    "audio-encoder if the data set has its features, or train anew.",
    "eye_form": "Use the data set of the training as it was (blendshapes.npy), or train anew.",
}
OLD_SILENCE_KEY = "rest_audio"
"""What older checkpoints call the buffer `silence_features`."""


class FrameConditions(nn.Module):
    """Signals of all frames and the statistics that standardise them.

    Persistent buffers: statistics, blink range, silent audio; not persistent: the raw signals.
    """

    audio: Float[Tensor, "n w a"]
    eye: Float[Tensor, "n e"]
    poses: Float[Tensor, "n 4 4"]
    closed_lips: Bool[Tensor, " n"]
    train_frames: Int[Tensor, " m"]
    audio_mean: Float[Tensor, " a"]
    audio_std: Float[Tensor, " a"]
    expression_mean: Float[Tensor, " e"]
    expression_std: Float[Tensor, " e"]
    blink_range: Float[Tensor, "2 2"]
    viewpoint_range: Float[Tensor, "2 12"]
    silence_features: Float[Tensor, "m t w a"]

    def __init__(
        self,
        track: ConditionTrack,
        eye_form: EyeForm,
        window_frames: int,
        closed_lip_frames: Int[Tensor, " c"] | None = None,
        silence_features: Float[Tensor, "m t w a"] | None = None,
        viewpoint_gain: float = 1.0,
        articulation: ArticulationConfig | None = None,
    ) -> None:
        """Standardise a clip's signals by its training frames.

        Args:
            track: Raw signals of the clip.
            eye_form: What the eye token gets: 17 upper-face blendshapes or the paper's blink value.
            window_frames: Frames the temporal attention sees.
            closed_lip_frames: Training frames with closed lips, which may be given silence.
            silence_features: Raw windows of silence; None where the clip's encoder cannot be run.
            viewpoint_gain: Factor on the distance of a camera from the middle of the training's.
            articulation: How the articulation code is fitted; None gives raw features.
        """
        super().__init__()
        self.audio_encoder = track.audio_encoder
        self.window_frames = window_frames
        self.viewpoint_gain = viewpoint_gain
        self.num_train_frames = len(track.train_frames)
        self.eye_form: EyeForm = eye_form if track.blendshapes is not None else "au45"
        self.overrides = Overrides()
        self.lip_gain = 1.0
        """How far the lips move by other audio, relative to the training's."""
        self._driving_audio: Float[Tensor, "m w a"] | None = None
        self._driving_frames: Int[Tensor, " m"] | None = None
        train = track.train_frames[track.valid[track.train_frames]]
        train = train if len(train) else track.train_frames
        self.register_buffer("train_frames", train, persistent=False)

        audio = track.audio.float()
        columns = audio[train].flatten(0, 1)
        self.register_buffer("audio_mean", columns.mean(dim=0))
        self.register_buffer("audio_std", column_std(columns))
        nothing = audio.new_zeros((0, window_frames, *audio.shape[1:]))
        self.register_buffer(
            "silence_features", (nothing if silence_features is None else silence_features).half()
        )
        self.register_buffer("audio", audio, persistent=False)

        self.speech_codes: SpeechCodes | None = None
        if articulation is not None and articulation.enabled and track.mouth is not None:
            shape = (audio.shape[1], audio.shape[2])
            self.speech_codes = SpeechCodes(articulation, window_frames, shape)

        raw_eye = raw_eye_signal(track, self.eye_form)
        blink_range, mean, std = eye_statistics(raw_eye[train], track.blink[train], self.eye_form)
        self.register_buffer("expression_mean", mean)
        self.register_buffer("expression_std", std)
        self.register_buffer("blink_range", blink_range)
        self.register_buffer("eye", raw_eye, persistent=False)

        pose = flatten_pose(track.T_camera_head.float())
        self.register_buffer("viewpoint_range", torch.stack([*pose[train].aminmax(dim=0)]))
        self.register_buffer("poses", track.T_camera_head.float(), persistent=False)
        closed_lips = torch.zeros(len(track.valid), dtype=torch.bool)
        if closed_lip_frames is not None:
            closed_lips[closed_lip_frames] = True
        self.num_closed_lips = int(closed_lips.sum())
        self.register_buffer("closed_lips", closed_lips, persistent=False)

    def fit_speech_codes(self, mouth: Float[Tensor, "n c"]) -> list[float]:
        """Fit the articulation code to the clip; see `SpeechCodes.fit`."""
        assert self.speech_codes is not None, "the model reads raw features"
        audio, silence = (self.standardise_audio(a) for a in (self.audio, self.silence_features))
        return self.speech_codes.fit(audio, mouth, self.train_frames, silence, self.closed_lips)

    @property
    def audio_shape(self) -> tuple[int, int, int]:
        """Frames, rows and features of the audio signal of a frame."""
        if self.speech_codes is not None:
            return 1, 1, self.speech_codes.code.num_codes
        return self.window_frames, int(self.audio.shape[1]), int(self.audio.shape[2])

    @property
    def num_track_frames(self) -> int:
        """Frames of the data set's clip."""
        return int(self.poses.shape[0])

    @property
    def num_frames(self) -> int:
        """Frames of the audio that drives the head: the clip's own, or the replacement's."""
        return self.num_track_frames if self._driving_audio is None else len(self._driving_audio)

    @property
    def driven(self) -> bool:
        """Whether other audio than the clip's own moves the head."""
        return self._driving_audio is not None

    @property
    def eye_size(self) -> int:
        """Length of the eye signal: 17 for the expression, 1 for the blink."""
        return int(self.eye.shape[1])

    def frames_at(self, times: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
        """Frames at times in [0, 1] over the driving audio: 0 is the first frame, 1 the last."""
        last = self.num_frames - 1
        return (times.clamp(0, 1) * last).round().long()

    def standardise_audio(self, audio: Float[Tensor, "*rows w a"]) -> Float[Tensor, "*rows w a"]:
        """Bring raw encoder features to zero mean and unit deviation of the training speech."""
        return (audio.to(self.audio_mean) - self.audio_mean) / self.audio_std

    def audio_signal(
        self, windows: Float[Tensor, "b t w a"], lip_gain: float | None = None
    ) -> Float[Tensor, "b t2 w2 a2"]:
        """What the audio token reads of windows of raw features: they, standardised, or a code.

        Args:
            windows: Feature rows around every frame.
            lip_gain: See `SpeechCodes`; raw features have no gain.
        """
        audio = self.standardise_audio(windows)
        return audio if self.speech_codes is None else self.speech_codes(audio, lip_gain)

    def viewpoint(self, T_camera_head: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b 12"]:
        """The viewpoint signal of OpenCV head poses (scene units): the raw numbers.

        Their size keeps the token nearly constant: it varies over a clip by .03.
        # Differs from GaussianTalker: a camera outside the range of the training is shown at its
        # border, so that orbiting the head does not distort it.
        """
        low, high = self.viewpoint_range
        pose = flatten_pose(T_camera_head.to(low)).clamp(low, high)
        return pose + (self.viewpoint_gain - 1.0) * (pose - (low + high) / 2)

    def set_audio(
        self, audio: Float[Tensor, "m w a"] | None, track_frames: Int[Tensor, " m"] | None = None
    ) -> None:
        """Replace the audio; frame numbers then count the new audio's frames.

        Args:
            audio: Raw features of the same encoder, one row per frame; None: the clip's own again.
            track_frames: Clip frames that give pose and expression to each row; None walks the clip
                in ping-pong.
        """
        if audio is None:
            self._driving_audio = self._driving_frames = None
            return
        if audio.shape[1:] != self.audio.shape[1:]:
            raise ValueError(
                f"The driving audio has rows of shape {tuple(audio.shape[1:])}, expected "
                f"{tuple(self.audio.shape[1:])} as in training; encode it with "
                f"'{self.audio_encoder}'."
            )
        if track_frames is None:
            positions = np.arange(len(audio))
            track_frames = torch.from_numpy(ping_pong(positions, self.num_track_frames))
        self._driving_audio = audio.to(self.audio)
        self._driving_frames = track_frames.to(self.audio.device)

    def track_frames(self, frames: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """The clip's frames that give pose, expression and torso to frames of the driving audio."""
        if self._driving_frames is not None:
            return self._driving_frames[frames.clamp(0, len(self._driving_frames) - 1)]
        return frames.clamp(0, self.num_track_frames - 1)

    def condition(
        self, frames: Int[Tensor, " b"], T_camera_head: Float[Tensor, "b 4 4"] | None = None
    ) -> FrameCondition:
        """Collect the signals of some frames with the overrides applied.

        Args:
            frames: Frames of the driving audio.
            T_camera_head: Poses of the cameras pi that are rendered; the clip's own if missing.
        """
        frames = frames.to(self.audio.device)
        track = self.track_frames(frames)
        held = self.overrides.viewpoint_frame
        if held is not None:
            T_camera_head = self.poses[torch.full_like(track, held)]
        elif T_camera_head is None:
            T_camera_head = self.poses[track]
        return FrameCondition(
            audio=self._audio_windows(frames),
            eye=self._eye_of(track),
            viewpoint=self.viewpoint(T_camera_head),
        )

    def training_condition(self, frames: Int[Tensor, " b"], silence_prob: float) -> FrameCondition:
        """The conditions of training frames, some of which get silence instead of speech.

        Args:
            frames: Frames of the batch.
            silence_prob: Fraction of all frames that get silence; they are taken from those with
                closed lips, which teaches the head to close its mouth when nobody speaks.
        """
        condition = self.condition(frames)
        if self.speech_codes is not None:
            condition.audio = self.speech_codes.training_codes(frames)
        num_closed, num_train = self.num_closed_lips, self.num_train_frames
        if silence_prob <= 0 or len(self.silence_features) == 0 or num_closed == 0:
            return condition
        chance = min(silence_prob * num_train / num_closed, 1.0)
        drawn = torch.rand(len(frames), device=frames.device) < chance
        silent = drawn & self.closed_lips[frames]
        # How many are silent is a number that the host would have to wait for on a GPU, so there
        # every frame of the batch gets a row of silence; a CPU draws rows for those that need them.
        counted = frames.device.type == "cpu"
        count = int(silent.sum()) if counted else len(frames)
        if count == 0:
            return condition
        picks = torch.randint(len(self.silence_features), (count,), device=frames.device)
        silence = self.audio_signal(self.silence_features[picks])
        if counted:
            audio = condition.audio.clone()
            audio[silent] = silence
        else:
            audio = torch.where(silent[:, None, None, None], silence, condition.audio)
        return FrameCondition(audio, condition.eye, condition.viewpoint)

    def _audio_windows(self, frames: Int[Tensor, " b"]) -> Float[Tensor, "b t w a"]:
        audio = self.audio if self._driving_audio is None else self._driving_audio
        seen = context_offsets(self.window_frames)
        offsets = torch.arange(seen.start, seen.stop, device=frames.device)
        windows = audio[(frames[:, None] + offsets).clamp(0, len(audio) - 1)]
        return self.audio_signal(windows, self.lip_gain if self.driven else None)

    def _eye_of(self, track: Int[Tensor, " b"]) -> Float[Tensor, "b e"]:
        overrides = self.overrides
        if overrides.expression_frame is not None:
            track = torch.full_like(track, overrides.expression_frame)
        eye = self._standardise_eye(self.eye[track])
        if overrides.expression is not None and self.eye_form == "expression":
            eye = self._standardise_eye(overrides.expression.to(eye)[None]).expand_as(eye)
        if overrides.blink is not None:
            eye = self.with_blink(eye, torch.full((len(eye),), float(overrides.blink)).to(eye))
        return eye

    def with_blink(
        self, eye: Float[Tensor, "b e"], blink: Float[Tensor, " b"]
    ) -> Float[Tensor, "b e"]:
        """Set the eye closure of standardised eye signals to values in [0, 1].

        Gaze and squint belong to the frames' own blinks; their mean goes with other ones.
        """
        if self.eye_form == "au45":
            low, high = self.blink_range[:, 0]  # Equal where the training had no blinks.
            return torch.where(high > low, blink.to(eye), low)[:, None]
        return expression_with_blink(
            eye, blink, self.blink_range, self.expression_mean, self.expression_std
        )

    def _standardise_eye(self, eye: Float[Tensor, "m e"]) -> Float[Tensor, "m e"]:
        return (eye - self.expression_mean) / self.expression_std

    def get_extra_state(self) -> dict[str, Any]:
        """What the checkpoint records beside the numbers."""
        return {"audio_encoder": self.audio_encoder, "eye_form": self.eye_form}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Refuse a checkpoint that was trained on other signals than this data set brings."""
        for name in ("audio_encoder", "eye_form"):
            if state[name] != getattr(self, name):
                raise ValueError(
                    f"The checkpoint was trained with {name} '{state[name]}', but the data set "
                    f"brings '{getattr(self, name)}'; expected the same. {REMEDIES[name]}"
                )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Make room for the checkpoint's rows of silence, whose number may differ from those here.

        Checkpoints from before 0.1.0 call them otherwise.
        """
        if prefix + "pose_std" in state_dict:
            raise ValueError(
                "The checkpoint was trained with a standardised viewpoint signal, as early versions"
                " did; expected the raw camera. Train again with this version."
            )
        old_key = prefix + OLD_SILENCE_KEY
        if old_key in state_dict:
            warnings.warn(f"{old_key} of an older checkpoint is silence_features now", stacklevel=2)
            state_dict[prefix + "silence_features"] = state_dict.pop(old_key)
        stored = state_dict.get(prefix + "silence_features")
        if stored is not None:
            self.silence_features = stored.to(self.silence_features)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
