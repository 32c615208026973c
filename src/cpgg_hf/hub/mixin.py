"""`push_to_hub` of the package's models and pipeline, which checks the data policy first.

It precedes the library's base class. Hub repositories that load without the package omit it.
"""

import inspect
import json
import os
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from cpgg_hf.data_policy import strictest
from cpgg_hf.files.policy_record import POLICY_FILE, read_record, recorded

_OPTIONS = ("repo_id", "private", "token", "commit_message", "revision", "override_policy", "create_pr")


class HubPolicyMixin:
    """Pushes the folder of `save_pretrained` by `cpgg_hf.hub.push.push_folder`."""

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        **options: Any,
    ) -> None:
        """Write configuration and weights (safetensors) into a folder.

        Args:
            save_directory: the folder.
            variant: name of these weights, such as "fp16", which becomes part of the file names.
            max_shard_size: largest file of weights, such as "2GB"; larger ones are split.
            push_to_hub: whether to push the folder too.
            options: options of the library's `save_pretrained`; with `push_to_hub` also those of the method
                `push_to_hub`, with the folder's name as the default `repo_id`.

        Raises:
            TypeError: an option that neither has.
        """
        known = {*_OPTIONS, *inspect.signature(super().save_pretrained).parameters} - {"kwargs"}  # type: ignore[misc]
        if unknown := options.keys() - known:
            raise TypeError(f"unknown options {sorted(unknown)}; expected among {', '.join(sorted(known))}.")
        hub = {name: options.pop(name) for name in _OPTIONS if name in options}
        for name, value in (("variant", variant), ("max_shard_size", max_shard_size)):
            if value is not None:
                options[name] = value
        model: Any = self  # a pipeline computes its policy, a network has it in its configuration
        policy = strictest([model.data_policy if hasattr(type(self), "data_policy") else model.config.data_policy])
        with recorded(save_directory, policy):
            super().save_pretrained(save_directory, **options)  # type: ignore[misc]
        if (Path(save_directory) / "adapter_config.json").is_file():
            path = Path(save_directory) / POLICY_FILE  # PEFT's own file does not keep the policy
            content = {**(read_record(path) or {}), "data_policy": policy}
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        if push_to_hub:
            self._push(Path(save_directory), **{"repo_id": Path(save_directory).name, **hub})

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Push to a Hub repository, which is created (private) if missing, with a model card.

        Returns the address of the commit or pull request.

        Args:
            repo_id: "owner/name".
            options: `private` (default: True), `token`, `commit_message`, `revision` (branch), `create_pr`
                and `override_policy` of `cpgg_hf.hub.push.push_folder`; others go to `save_pretrained`, such as
                `variant="fp16"` and `max_shard_size="2GB"`.

        Raises:
            PolicyError: it was trained on restricted data.
            PublishingError: the Hub refused, or could not be reached after several tries.
            TypeError: an unknown option.
        """
        hub = {name: options.pop(name) for name in _OPTIONS if name in options}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / repo_id.rsplit("/", 1)[-1]
            self.save_pretrained(path, **options)
            return self._push(path, repo_id, **hub)

    def _push(self, folder: Path, repo_id: str, **hub: Any) -> str:
        from cpgg_hf.hub.push import push_folder

        if not (folder / "adapter_config.json").is_file():
            # By its name, because the card also describes what is built on top of the models.
            import_module("cpgg_hf.release.model_card").write_model_card(folder, repo_id=repo_id)
        message = {"commit_message": f"Upload {type(self).__name__}"}
        return push_folder(folder, repo_id, **{**message, **hub})
