"""Checkpoints of a run: saved in the background by Orbax, proved by checksums, the newest whole one restored."""

import contextlib
import dataclasses
import itertools
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import Mesh

from bertjax.config import CheckpointConfig
from bertjax.engine.checkpoint import orbax_log
from bertjax.engine.checkpoint.record import ITEM, Damaged, Saved, amend_record, kept_steps, sealed, whole_record
from bertjax.engine.checkpoint.step_folders import leftovers, put_aside, step_numbers
from bertjax.engine.checkpoint.stored_arrays import differences
from bertjax.errors import CheckpointError, Diverged, WorkdirGone
from bertjax.parallel.agreement import all_of
from bertjax.parallel.checksums import Checksums
from bertjax.parallel.sharding import path_name

STATE = "state"
# A dataclass of pytrees: what is saved under each field's name.
State = TypeVar("State")
# What a save needs besides its arrays: metadata, and the rounding of files up to blocks.
SPARE_BYTES = 16 * 2**20
# How long a process waits to see a folder that process 0 sees: file systems of several machines cache what folders
# hold, NFS for up to a minute.
UNSEEN_SECONDS = 90.0

_told = itertools.count(1)  # all processes ask in the same order, whatever a process has checkpoints of


class Checkpoints:
    """The checkpoints in ``workdir/checkpoints``: a folder a step, with the items ``state`` (arrays) and ``record``.

    A save counts once its background writing has been waited for and its record read back; only then do older steps
    go. An error of one save surfaces in the next call of any method. All processes of a run call every method
    together; the first one lists, deletes and moves folders, and tells the others which step is restored.
    """

    def __init__(
        self,
        workdir: Path,
        config: CheckpointConfig,
        mesh: Mesh,
        say: Callable[[str], None],
        tell: Callable[[str, Any], Any] = lambda name, value: value,
    ):
        """``tell(name, value)``: process 0's value (plain JSON) in all processes; each name is used once."""
        self._folder, self._config, self._say = workdir.absolute() / "checkpoints", config, say
        self._damaged = workdir.absolute() / "damaged"
        self._checksums, self._all, self._first = Checksums(mesh), all_of(mesh), jax.process_index() == 0
        orbax_log.quieten()
        self._tell = lambda value: tell(f"checkpoints, question {next(_told)}", value)
        self._manager: ocp.CheckpointManager | None = None
        self._pending: tuple[int, Saved] | None = None  # the step that is being written
        self._saved: dict[int, Saved] = {}  # of the steps that are whole
        self._deleting: list[threading.Thread] = []

    def steps(self) -> list[int]:
        """Steps that have a folder, as this process sees it, ascending."""
        return step_numbers(self._folder)

    def newest(self) -> int | None:
        return max(self.steps(), default=None)

    def newest_seen(self, told: int | None) -> int | None:
        """What ``newest`` is where process 0 says that it is ``told``: that, as soon as this process sees it too."""
        return told if told is not None and self._sees(told) else self.newest()

    def _sees(self, step: int) -> bool:
        end = time.monotonic() + UNSEEN_SECONDS
        while not self._first and step not in self.steps():
            if time.monotonic() > end:
                return False
            time.sleep(0.5)
        return True

    # --- Saving ---------------------------------------------------------------------------------------------------

    def save(self, step: int, state: Any, record: dict[str, Any]) -> None:
        """Begins to save; the arrays are copied before it returns, so the state may be donated to the next step.

        record: plain JSON about the step; the checksums are added to it. Raises CheckpointError if there is no
        space, Diverged where a number of the state is not finite.
        """
        self.wait()
        if step in self._saved:
            return
        tree = _tree(state)
        checksums, finite = self._checksums(tree)
        if not finite:
            raise Diverged(f"the state after step {step} is not finite; it is not saved")
        self._check_space(step, tree)
        arrays = {
            name: {"shape": list(x.shape), "dtype": x.dtype.name, "checksum": checksums[name]}
            for name, x in _by_name(tree).items()
        }
        record = sealed(record | {"step": step, "arrays": arrays})
        items = {STATE: ocp.args.PyTreeSave(tree), ITEM: ocp.args.JsonSave(record)}
        try:
            saved = self._open().save(step, args=ocp.args.Composite(**items), force=True)
        except Exception as error:  # whatever the storage layer raises
            raise self._not_written(step, error) from error
        if not saved:
            raise CheckpointError(f"the checkpoint of step {step} was not written")
        self._pending = step, _saved(record)

    def amend(self, step: int, changes: dict[str, Any]) -> None:
        """Replaces values in the record of a step that is whole, such as those of an evaluation that came after it was
        saved. Raises CheckpointError if that cannot be written."""
        self.wait()
        if self._first:
            try:
                amend_record(self._folder / str(step), changes)
            except (Damaged, OSError) as error:
                raise self._not_written(step, error) from error
        self._saved[step] = _saved({"phase": self._saved[step].phase} | changes)

    def poll(self) -> None:
        """To be called at every step: takes note of a save that has ended, and raises where it failed."""
        if self._pending is not None and not self._open().is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Returns when everything is on disk and read back. Raises CheckpointError if a save failed."""
        if self._pending is None:
            return
        (step, saved), self._pending = self._pending, None
        try:
            self._open().wait_until_finished()
            self._open().check_for_errors()
        except Exception as error:
            raise self._not_written(step, error) from error
        try:
            if self._first:  # which gives the step its name; the others may be here before that
                self._whole(step)
        except Damaged as damage:
            if not (self._folder.parent / "config.json").exists():
                raise WorkdirGone(self._folder.parent) from None
            raise CheckpointError(f"the checkpoint of step {step} was not written as it should be: {damage}") from None
        self._saved[step] = saved
        self._delete_old()

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self._finish_deleting()
            if self._manager is not None:
                self._manager.close()

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            # What process 0 finds there is what all of them believe to be there.
            options = ocp.CheckpointManagerOptions(max_to_keep=None, create=True, single_host_load_and_broadcast=True)
            # Not compressed: of floats that saves a twelfth, and takes longer to write and to read.
            handlers = {STATE: ocp.PyTreeCheckpointHandler(use_compression=False), ITEM: ocp.JsonCheckpointHandler()}
            self._manager = ocp.CheckpointManager(self._folder, options=options, item_handlers=handlers)
        return self._manager

    def _not_written(self, step: int, error: Exception) -> CheckpointError:
        reason = " ".join(str(error).split())[:300]
        return CheckpointError(
            f"the checkpoint of step {step} could not be written to {self._folder} ({reason}){self._newest_whole()}"
        )

    def _newest_whole(self) -> str:
        return f"; step {max(self._saved)} is whole" if self._saved else ""

    def _check_space(self, step: int, tree: Any) -> None:
        if not self._first:
            return
        if not self._folder.parent.is_dir():
            raise WorkdirGone(self._folder.parent)
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:  # somebody's file in its place
            raise self._not_written(step, error) from None
        needed = sum(x.nbytes for x in jax.tree.leaves(tree)) + SPARE_BYTES
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise CheckpointError(
                f"no space in {self._folder} for the checkpoint of step {step}: {needed / 1e9:.2f} GB are needed, "
                f"{free / 1e9:.2f} GB free{self._newest_whole()}; make room and run the same command again"
            )

    def _delete_old(self) -> None:
        for step in sorted(set(self._saved) - kept_steps(self._saved, self._config)):
            del self._saved[step]
            if self._first:
                # Out of the way by one rename: a half-deleted folder never has the name of a step.
                doomed = self._folder / f"{step}.deleted"
                if doomed.exists():  # deleted once before, ahead of a rollback
                    self._finish_deleting()
                    shutil.rmtree(doomed, ignore_errors=True)
                with contextlib.suppress(FileNotFoundError):  # somebody else has deleted it
                    (self._folder / str(step)).rename(doomed)
                thread = threading.Thread(target=shutil.rmtree, args=(doomed,), kwargs={"ignore_errors": True})
                thread.start()
                self._deleting = [t for t in self._deleting if t.is_alive()] + [thread]

    def _finish_deleting(self) -> None:
        for thread in self._deleting:
            thread.join()

    # --- Restoring ------------------------------------------------------------------------------------------------

    def restore_newest(self, shapes: State) -> tuple[int, State, dict[str, Any]] | None:
        """(step, state, record) of the newest whole checkpoint, laid out as ``shapes`` (ShapeDtypeStructs with
        shardings); None if there is no checkpoint at all.

        Newer ones that are damaged are moved to ``workdir/damaged`` with one line each, and what killed runs left
        half done is deleted. Raises CheckpointError if none is whole, or where the state is of other arrays.
        """
        self.wait()
        self._all(True)  # the first process has named what it waited for
        self._checksums.prepare(_tree(shapes))
        damaged: dict[int, str] = {}
        for step in self._tell(self.steps())[::-1]:
            state, record, damage = self._restored(step, shapes)
            if damage is None:
                self._put_aside(damaged, step)
                earlier = self._tell([[n, *saved] for n, saved in self._known(step).items()] if self._first else None)
                self._saved = {n: Saved(*saved) for n, *saved in earlier} | {step: _saved(record)}
                return step, state, record
            damaged[step] = damage
        if damaged:
            raise CheckpointError(
                f"none of the checkpoints in {self._folder} is whole ({len(damaged)} of them; that of step "
                f"{max(damaged)}: {damaged[max(damaged)]}); nothing was deleted"
            )
        self._put_aside({}, None)
        self._saved = {}
        return None

    def restore(self, step: int, shapes: State) -> tuple[State, dict[str, Any]]:
        """State, laid out as ``shapes``, and record of one step. Raises CheckpointError if it is not whole."""
        self.wait()
        self._all(True)
        state, record, damage = self._restored(step, shapes)
        if damage is not None:
            raise CheckpointError(f"the checkpoint of step {step} in {self._folder} is damaged ({damage})")
        return state, record

    def _restored(self, step: int, shapes: State) -> tuple[Any, Any, str | None]:
        """(state, record, None), or what is wrong with the step in the last place. Raises CheckpointError."""
        # Whoever does not see it could not tell whether it is damaged.
        if not self._all(self._sees(step)):
            raise CheckpointError(
                f"the checkpoint of step {step} in {self._folder} is not seen by all processes, which must share that "
                f"folder; nothing was changed, start them again once it is"
            )
        state: Any = None
        record: dict[str, Any] = {}
        damage = None
        try:
            record = self._whole(step)
            _check_state(step, record, _tree(shapes))
            handler = ocp.StandardCheckpointHandler()
            with contextlib.closing(handler):
                folder = epath.Path(self._folder / str(step) / STATE)
                state = handler.restore(folder, args=ocp.args.StandardRestore(_tree(shapes)))
        except Damaged as error:
            damage = str(error)
        except CheckpointError:
            raise
        except Exception as error:  # whatever the storage layer raises on damaged files
            damage = f"{STATE}: {' '.join(str(error).split())[:200]}"
        # Before anything that all devices do together: in one of the processes it may have failed.
        if not self._all(damage is None):
            return None, None, damage or "it could not be read in another process"
        checksums, _ = self._checksums(state)
        changed = [name for name, array in record["arrays"].items() if array["checksum"] != checksums.get(name)]
        if changed:
            more = f" and {len(changed) - 1} more arrays are" if len(changed) > 1 else " is"
            return None, None, f"{changed[0]}{more} not what was saved"
        return type(shapes)(**state), record, None

    def _whole(self, step: int) -> dict[str, Any]:
        """The record of a step whose folder is complete. Raises Damaged."""
        return whole_record(self._folder / str(step), step)

    def _known(self, newest: int) -> dict[int, Saved]:
        saved = {}
        for step in self.steps():
            if step < newest:
                try:
                    saved[step] = _saved(self._whole(step))
                except (Damaged, CheckpointError):  # retention deletes it like any other
                    saved[step] = Saved()
        return saved

    def _put_aside(self, damaged: dict[int, str], used: int | None) -> None:
        """Moves damaged steps away and clears what killed runs left half done."""
        for step, reason in sorted(damaged.items()):
            self._say(f"the checkpoint of step {step} is damaged ({reason}); going on from step {used}")
        if self._first:
            for step in damaged:
                try:
                    put_aside(self._folder / str(step), self._damaged)
                except OSError as error:
                    raise CheckpointError(
                        f"{self._folder / str(step)}, which is damaged, cannot be moved to {self._damaged} "
                        f"({error.strerror or error}); move it away yourself"
                    ) from None
            self._finish_deleting()
            for left in leftovers(self._folder):
                shutil.rmtree(left, ignore_errors=True)
        self._all(True)  # nobody lists the folder before it is in order
        if self._manager is not None:
            self._manager.reload()  # otherwise it refuses to save the same step again


def _saved(record: dict[str, Any]) -> Saved:
    return Saved(record.get("held_out_loss"), record.get("phase", 0))


def _check_state(step: int, record: dict[str, Any], shapes: Any) -> None:
    """Raises CheckpointError if the checkpoint holds other arrays than the run has."""
    differ = differences(record, _by_name(shapes))
    if differ:
        name, there, here = differ[0]
        raise CheckpointError(
            f"the checkpoint of step {step} is of another state: {name} is {there} there, {here} here"
            + f", and {len(differ) - 1} more differ" * (len(differ) > 1)
        )


def _by_name(tree: Any) -> dict[str, Any]:
    return {path_name(path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def _tree(state: Any) -> dict[str, Any]:
    """By field; without those that are empty dicts, of which checkpoints of earlier versions know nothing."""
    values = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return {name: value for name, value in values.items() if not (isinstance(value, dict) and not value)}
