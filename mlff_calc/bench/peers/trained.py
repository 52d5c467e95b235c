"""Training of peers. Finished trainings are kept, in folders named after everything that determines them."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from mlff_calc.bench.peers import linear_build, mace_build, nequip_build
from mlff_calc.bench.peers.catalogue import CUTOFF, Peer
from mlff_calc.whole_files import write_whole

logger = logging.getLogger(__name__)


def train_peer(
    peer: Peer,
    files: dict[str, Path],
    elements: set[int],
    minutes: float,
    *,
    workdir: Path,
    versions: dict[str, str],
    threads: int,
) -> dict[str, Any]:
    """Train or fit a peer, unless the same training has finished before. An interrupted training starts again.

    Args:
        peer: Peer to train.
        files: Files `train` and `validation` (extxyz).
        elements: Atomic numbers in these files.
        minutes: Budget in processor minutes; linear fits have no limit.
        workdir: Folder of environments and trainings.
        versions: Versions of the packages in the environment of the peer.
        threads: Number of threads.

    Returns:
        Loader options of the model.

    Raises:
        BenchmarkError: The training failed. The text names the log.
    """
    linear = peer.family in linear_build.FAMILIES
    data = [hashlib.sha256(files[part].read_bytes()).hexdigest() for part in ("train", "validation")]
    facts = [peer.model, peer.learning_rate, CUTOFF, data, None if linear else minutes, versions, threads]
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    folder = workdir / "runs" / f"{peer.name}-{name}"
    ended = folder / "ended.json"
    if ended.is_file():
        logger.info("%s has been trained before: %s", peer.name, folder)
        return json.loads(ended.read_text(encoding="utf-8"))
    options: dict[str, Any]
    if linear:
        options = linear_build.fit(peer, files["train"], files["validation"], folder, workdir, threads=threads)
    elif peer.family == "mace":
        options = mace_build.train(peer, files, folder, workdir, minutes, threads=threads)
    else:
        symbols = [chemical_symbols[z] for z in sorted(elements)]
        config = nequip_build.training_config(peer, symbols, files["train"], files["validation"], minutes=minutes)
        checkpoint = nequip_build.train(peer, config, folder, workdir, threads=threads)
        target = folder / f"model-{threads}.nequip.pt2"
        options = nequip_build.compile_checkpoint(peer, checkpoint, target, workdir, threads=threads)
    write_whole(ended, json.dumps(options))
    return options
