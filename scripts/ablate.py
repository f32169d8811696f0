"""`gaussiantalker ablate`: train and compare the rows of the paper's ablation tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.text import Text

if TYPE_CHECKING:
    from gaussiantalker_ns.ablation.job import AblateJob
    from gaussiantalker_ns.ablation.study import Study

TableName = Literal["3", "4", "5", "6", "fusion"]


@dataclass
class Config:
    """Train the rows of the paper's Tables 3 to 6 with fixed seeds and print them in its form.

    Every run keeps its own folder under OUTPUT_DIR/runs and a result.json when it is finished; the
    same command started again trains only what is missing. The run without changes is trained once
    for all tables.
    """

    data: Path
    """The data set's folder."""
    table: tuple[TableName, ...]
    """Tables to fill: attributes on the tri-plane (3), deformed attributes (4), conditions (5),
    stages (6), and attention against concatenation and multiplication (fusion)."""
    rows: tuple[str, ...] = ()
    """Train only these rows, such as `without-viewpoint`; `reference` is the run without changes.
    The tables show whatever is finished."""
    seeds: int = 3
    """Runs of each row, >= 1, with seeds 42, 43, ..."""
    preset: Literal["cpu", "paper", "lite"] = "cpu"
    """Method whose parts are changed: gaussiantalker-cpu, gaussiantalker or gaussiantalker-lite."""
    canonical_steps: int | None = None
    """Steps of the canonical stage; by default the preset's."""
    num_steps: int | None = None
    """Steps of both stages together; by default the preset's."""
    perceptual_network: Literal["alex", "vgg", "ms-ssim"] | None = None
    """What the perceptual term compares with, by default the preset's: LPIPS in `paper` and `lite`,
    none in `cpu`. `ms-ssim` needs no weights."""
    num_workers: int = 1
    """Runs side by side, in processes with one CPU thread each."""
    ray: str | None = None
    """Train with Ray (extra `ray`): `local` starts it here with NUM_WORKERS workers; `auto` or an
    address joins a running cluster, whose machines must see the data set and the output folder
    under the same paths."""
    output_dir: Path = Path("ablation")
    """Where runs, tables and figures go."""
    overwrite: bool = False
    """Train again what is finished already."""

    def study(self) -> "Study":
        """What all runs have in common.

        Raises:
            ValueError: If the options do not make sense.
            FileNotFoundError: If there is no data set.
        """
        from gaussiantalker_ns.ablation.study import make_study

        return make_study(
            self.data,
            self.output_dir,
            self.preset,
            self.canonical_steps,
            self.num_steps,
            self.perceptual_network,
        )

    def job(self) -> "AblateJob":
        """The runs to train."""
        from gaussiantalker_ns.ablation.job import AblateJob

        return AblateJob(
            self.study(),
            self.table,
            self.rows,
            self.seeds,
            self.num_workers,
            self.ray,
            self.overwrite,
        )


def run(config: Config) -> int:
    """Train what is missing, print the tables, and tell whether every run is there."""
    from nerfstudio.utils.rich_utils import CONSOLE

    report = config.job().run(lambda line: CONSOLE.print(Text(line)))
    CONSOLE.print(Text(report.markdown), soft_wrap=True)
    for path in report.paths:
        CONSOLE.print(Text(f"Wrote {path}"), soft_wrap=True)
    if report.failures:
        CONSOLE.print(Text(report.failures, "bold red"))
    return 1 if report.failures else 0
