"""What the README says of permissions, prices and limits, beside the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

from lambdaml_aws_lambda import policy
from lambdaml_aws_lambda.options import AwsLambdaOptions
from lambdaml_aws_lambda.prices import PRICES, usd_per_worker_s
from lambdaml_aws_lambda.shapes import Plan
from lambdaml_core.options import describe

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
FUNCTION = "lambdaml-census-1f0cabcd"
EXAMPLE = cast(
    Plan,
    {
        "settings": {
            "region": "us-east-1",
            "role": None,
            "secret": None,
            "subnets": [],
            "security_groups": [],
            "package_bucket": "my-bucket",
        },
        "places": [
            {
                "url": "s3://my-bucket/lambdaml",
                "storage": {"kind": "storage", "name": "s3", "factory": "", "options": "", "values": {}, "inner": None},
            }
        ],
    },
)
"""As much of the plan of the example job as permissions follow from."""


def policies() -> list[dict[str, Any]]:
    return [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)]


def test_the_policies_are_those_of_the_code() -> None:
    assert policies() == [policy.user_policy(EXAMPLE), policy.worker_policy(EXAMPLE, FUNCTION)]


def test_prices_are_those_of_the_code() -> None:
    for region, prices in PRICES.items():
        row = (
            f"| {region} | ${prices.gb_s['x86_64']:.10f} | ${prices.gb_s['arm64']:.10f} | ${1e6 * prices.request:.2f} "
            f"| ${1e9 * prices.log_byte:.2f} |"
        )
        assert row in README
    second = usd_per_worker_s("us-east-1", memory_mb=1769, ephemeral_mb=512, architecture="x86_64")
    assert f"1,769 MB costs ${second:.7f} a second, ${second * 3600:.3f} an hour" in " ".join(README.split())


def test_every_option_stands_in_the_table_with_its_default() -> None:
    for info in describe(AwsLambdaOptions):
        (row,) = re.findall(rf"^\| `{info.name}` \| ([^|]*) \|", README, re.MULTILINE)
        if isinstance(info.default, int | float | str):
            assert row.strip().replace(",", "") == f"{info.default:g}" if not isinstance(info.default, str) else row
