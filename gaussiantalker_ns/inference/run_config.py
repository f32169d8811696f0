"""Configurations of runs as files: names and paths of other versions and systems, damage."""

import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RENAMED = {
    "trainer": "engine.trainer",
    "optimizers": "engine.optimizers",
    "datamanager": "data.datamanager",
    "densification": "gaussians.densification",
    "head": "fields.talking_head",
    "fields.fusion": "fields.attention",
    "objective": "losses.objective",
}
"""Modules of the package that configurations from before 0.1.0 name, and where they are now."""

RENAMED_FIELDS = {"above_mouth": "upper_face_only", "rest_share": "silence_prob"}
"""The same for fields."""

LAST_ENTRY = "vis"
"""What Nerfstudio writes last into `config.yml`; a file without it was cut."""

FOREIGN_PATH = re.compile(r"\bpathlib\.(_local\.)?(WindowsPath|PosixPath)\b")
"""Paths in a configuration; which of them is known depends on system and Python version."""


def with_current_names(config: str) -> str:
    """The text of a run's configuration with the present names of modules and fields.

    Example: `gaussiantalker_ns.head.TalkingHeadConfig` becomes
    `gaussiantalker_ns.fields.talking_head.TalkingHeadConfig`.
    """
    modules = "|".join(re.escape(name) for name in RENAMED)
    config = re.sub(
        rf"(?<=gaussiantalker_ns\.)({modules})(?=\.[A-Z])", lambda found: RENAMED[found[1]], config
    )
    fields = "|".join(RENAMED_FIELDS)
    return re.sub(
        rf"(?m)^( +)({fields})(?=:)", lambda found: found[1] + RENAMED_FIELDS[found[2]], config
    )


def with_native_paths(config: str) -> str:
    """The text of a run's configuration with paths that this system knows.

    Example: `pathlib.WindowsPath` becomes `pathlib.Path` on Linux.
    """
    native = f"pathlib.{type(Path()).__name__}"
    return FOREIGN_PATH.sub(lambda found: native if found[0] == native else "pathlib.Path", config)


def read_config(config_path: Path) -> str:
    """The text of a run's configuration.

    Raises:
        ValueError: If it is empty, or no text.
    """
    try:
        text = config_path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise damaged(config_path, f"is no text ({error.reason})") from error
    if not text.strip():
        raise damaged(config_path, "is empty")
    return text


def damaged(path: Path, state: str) -> ValueError:
    """The error for a file of a run that is not as the training left it."""
    return ValueError(
        f"{path} {state}; expected the whole file that `ns-train gaussiantalker` wrote. Copy the"
        " run's folder again, or train again."
    )


def check_config(config_path: Path, readable: Path) -> None:
    """Check that a configuration is whole, and of a method that is installed.

    Raises:
        ValueError: If it is not.
    """
    import yaml
    from nerfstudio.configs.method_configs import all_methods
    from nerfstudio.engine.trainer import TrainerConfig

    try:
        config = yaml.load(readable.read_text(encoding="utf-8"), Loader=yaml.Loader)
    # What an object that is cut or unknown fails with depends on the object.
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise damaged(config_path, f"cannot be read ({one_line(error)})") from error
    except (ImportError, NotImplementedError, ValueError) as error:
        raise damaged(config_path, f"cannot be read ({one_line(error)})") from error
    if not isinstance(config, TrainerConfig):
        raise damaged(config_path, f"holds {type(config).__name__}, not a run's configuration")
    if LAST_ENTRY not in vars(config):
        raise damaged(config_path, "ends too early")
    if config.method_name not in all_methods:
        raise ValueError(
            f"{config_path} belongs to the method {config.method_name}; expected gaussiantalker or"
            " one of its presets."
        )


def one_line(error: Exception) -> str:
    """The first line of an error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def readable_config(config_path: Path) -> Iterator[Path]:
    """A configuration with present names and paths: the file itself, or a translated copy.

    Raises:
        ValueError: If it is empty, or no text.
    """
    text = read_config(config_path)
    named = with_current_names(text)
    if named != text:
        warnings.warn(
            f"{config_path} is from before 0.1.0; its older names are translated", stacklevel=4
        )
    current = with_native_paths(named)
    if current == text:
        yield config_path
        return
    with tempfile.TemporaryDirectory(prefix="gaussiantalker-config-") as folder:
        copy = Path(folder) / config_path.name
        copy.write_text(current, encoding="utf-8")
        yield copy
