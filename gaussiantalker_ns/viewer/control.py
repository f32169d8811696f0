"""Installs the audio timeline in Nerfstudio's viewer, in `ns-train` and `ns-viewer` alike."""

from typing import TYPE_CHECKING

from nerfstudio.viewer.viewer_elements import ViewerControl

from gaussiantalker_ns.model import GaussianTalkerModel

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer


class AudioTimeline(ViewerControl):
    """Nerfstudio finds this object as an attribute of the pipeline and calls `_setup`."""

    def __init__(self, model: GaussianTalkerModel) -> None:
        # No public attribute may lead to the model: Nerfstudio searches those for controls.
        self._model = model

    def _setup(self, viewer: "Viewer") -> None:
        """Build the panel; what only a viewer needs is imported only where there is one."""
        super()._setup(viewer)
        from gaussiantalker_ns.viewer.installation import Installation

        self.installation = Installation(viewer, self._model)
