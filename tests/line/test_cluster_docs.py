"""The recipe for clusters in the documentation makes job scripts that start workers as hwloop needs them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "cluster.md"


@pytest.mark.parametrize(
    ("scheduler", "walltime", "lines"),
    [
        (
            "SLURMCluster",
            "04:00:00",
            ["#SBATCH -p normal", "#SBATCH -n 1", "#SBATCH -t 04:00:00"],
        ),
        ("LSFCluster", "04:00", ["#BSUB -q normal", "#BSUB -n 1", "#BSUB -W 04:00"]),
        ("SGECluster", "04:00:00", ["#$ -q normal", "#$ -l h_rt=04:00:00"]),
        (
            "PBSCluster",
            "04:00:00",
            ["#PBS -q normal", "#PBS -l select=1:ncpus=1:", "#PBS -l walltime="],
        ),
    ],
)
def test_job_scripts_are_those_of_the_scheduler(scheduler: str, walltime: str, lines: list[str]) -> None:
    pytest.importorskip("dask_jobqueue")
    (block,) = (
        text
        for text in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), flags=re.DOTALL)
        if "dask_jobqueue" in text
    )
    recipe = block.replace("SLURMCluster", scheduler).replace('"04:00:00"', f'"{walltime}"')
    if scheduler == "LSFCluster":
        # Without lsf.conf, the unit of memory and the version of LSF cannot be asked for.
        recipe = recipe.replace('memory="4GB",', 'memory="4GB", lsf_units="kb", use_stdin=True,')
    names: dict[str, Any] = {"__name__": "workers"}
    exec(recipe, names)
    with names["cluster"] as cluster:
        script = cluster.job_script()
    for line in lines:
        assert f"\n{line}" in script
    assert "\nexport DASK_DISTRIBUTED__WORKER__DAEMON=False\n" in script
    assert re.search(
        r"python\S* -m distributed\.cli\.dask_worker tcp://\S+ .*--nthreads 1 .*--lifetime 230m", script
    )
