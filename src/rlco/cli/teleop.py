"""``rlco teleop``: a person records demonstrations."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rlco.demos.teleop.devices import Device, Together
from rlco.demos.teleop.keyboard import Keyboard
from rlco.demos.teleop.mapping import MappingConfig
from rlco.demos.teleop.record import TeleopConfig, finished, teleoperate
from rlco.demos.teleop.spacemouse import SpaceMouse, SpaceMouseConfig
from rlco.demos.teleop.view import Terminal, View, Views
from rlco.demos.teleop.web import DEFAULT_PORT, WebView


@dataclass(frozen=True, kw_only=True)
class Teleop:
    """Arguments of ``rlco teleop``."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Where the dataset is written (LeRobot v3.0); what is kept so far is in FOLDER.partial."""
    task: str = "push-cube"
    device: Literal["keyboard", "spacemouse"] = "keyboard"
    """What moves the arm; with a SpaceMouse the keys work, too."""
    domain: str = "standin"
    """World: standin, twin or robot."""
    engine: str = "mujoco"
    """What moves there."""
    reality: int = 0
    """Which hidden draw of the stand-in."""
    objects: tuple[str, ...] | None = None
    """Of these things only (cube colours, ...); None: those of the training."""
    count: int = 20
    """Demonstrations to keep, those of earlier sessions included."""
    starts: Literal["fixed", "random"] = "fixed"
    """A balanced list in order, each until it is kept; or another one at every try."""
    require_success: bool = False
    """Keep only what the task's own check confirms."""
    mapping: tyro.conf.OmitArgPrefixes[MappingConfig] = field(default_factory=MappingConfig)
    spacemouse: SpaceMouseConfig = field(default_factory=SpaceMouseConfig)
    view: Literal["web", "none"] = "web"
    """The camera's picture: a page on this machine, or none."""
    port: int = DEFAULT_PORT
    """Of that page, on 127.0.0.1; 0 takes any free one."""
    max_steps: int | None = None
    """Control steps after which the world stops an episode; None: four times the task's own."""
    image_size: int = 96
    """Height and width of a picture [pixels]."""
    seed: int = 0

    def run(self) -> None:
        """See the overview."""
        config = self._config()
        done = finished(self.folder, config)
        if done is None:
            with ExitStack() as stack:
                done = teleoperate(self.folder, config, self._device(stack), self._view(stack))
        print(json.dumps(asdict(done), indent=2))

    def _config(self) -> TeleopConfig:
        return TeleopConfig(
            task=self.task,
            domain=self.domain,
            engine=self.engine,
            reality=self.reality,
            objects=self.objects,
            count=self.count,
            starts=self.starts,
            seed=self.seed,
            image_size=self.image_size,
            max_steps=self.max_steps,
            require_success=self.require_success,
            mapping=self.mapping,
        )

    def _device(self, stack: ExitStack) -> Device:
        """Open the device. The keyboard comes last: from then on the terminal is not line by line any more."""
        devices: list[Device] = []
        if self.device == "spacemouse":
            mouse = SpaceMouse(self.spacemouse)
            stack.callback(mouse.close)
            devices.append(mouse)
        keyboard = Keyboard()
        stack.callback(keyboard.close)
        return Together([*devices, keyboard])

    def _view(self, stack: ExitStack) -> View:
        terminal = Terminal()
        stack.callback(terminal.close)
        if self.view == "none":
            return terminal
        web = WebView(self.port)
        stack.callback(web.close)
        terminal.say(f"The camera's picture: {web.url}")
        return Views([terminal, web])
