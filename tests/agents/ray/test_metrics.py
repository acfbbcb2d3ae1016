"""What Prometheus reads from a node."""

from __future__ import annotations

import re
from urllib.request import urlopen

import pytest
import ray

from superlink.agents.ray.engine import Deployment
from tests.agents.ray.conftest import wait_until
from tests.agents.ray.test_faults import make_call

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def exported() -> str:
    (node,) = (one for one in ray.nodes() if one["Alive"])
    with urlopen(
        f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=20
    ) as page:
        return str(page.read().decode())


def counted(name: str, **tags: str) -> float:
    """The sum over all processes of what carries these tags."""
    lines = re.findall(rf"^ray_superlink_{name}\{{(.*)\}} (\S+)$", exported(), re.MULTILINE)
    wanted = [f'{key}="{value}"' for key, value in tags.items()]
    return sum(float(value) for found, value in lines if all(one in found for one in wanted))


def test_calls_and_failures_are_counted_where_prometheus_looks(rested: Deployment) -> None:
    name = "quick"
    rested.submit(name, [make_call(k) for k in range(3)]).result(100)
    rested.submit(name, [make_call(7, act="raise")]).result(100)
    # What a process counts is exported every few seconds; `wait_until` fails where it never comes.
    wait_until(lambda: counted("done_total", worker=name) >= 4)
    wait_until(lambda: counted("failed_total", worker=name, kind="decoder") >= 1)
    wait_until(lambda: counted("seconds_count", worker=name) >= 2)
    assert counted("failed_total", worker=name) < counted("done_total", worker=name)
