"""What doctor says of credentials, quota, role, kept functions and a VPC."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aws_cloud import client, options, package, plan

from lambdaml_aws_lambda import policy, removing
from lambdaml_aws_lambda.checks import checks
from lambdaml_aws_lambda.deploying import deploy_package
from lambdaml_aws_lambda.testing import AwsServer, aws_server
from lambdaml_core.findings import Finding
from lambdaml_core.testing.servers import environment


@pytest.fixture(scope="module")
def server() -> Iterator[AwsServer]:
    with aws_server(concurrency=10) as started:
        yield started


def looked(server: AwsServer, **more: Any) -> dict[str, Finding]:
    found = list(checks(options(server, **more)))
    assert all(finding.remedy for finding in found if finding.state != "ok")
    return {finding.what: finding for finding in found}


def test_credentials_and_quota(server: AwsServer) -> None:
    found = looked(server)
    assert {what: finding.state for what, finding in found.items()} == {"credentials": "ok", "quota": "warning"}
    assert found["quota"].values == {"concurrent": 10}
    with environment("AWS_", server.environment | {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"}):
        assert looked(server)["access"].state == "problem"


def test_a_role_that_functions_may_not_have(server: AwsServer) -> None:
    trusts = json.dumps(policy.TRUST)
    for name, document in (("for-lambda", trusts), ("for-ec2", trusts.replace("lambda.", "ec2."))):
        server.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document)
    assert looked(server, role="for-lambda")["role"].state == "ok"
    assert looked(server, role="for-ec2")["role"].state == "problem"
    assert looked(server, role="nobodys")["role"].state == "problem"


def test_a_kept_function_whose_successors_aws_would_end(server: AwsServer, tmp_path: Path) -> None:
    planned = plan(server)
    deploy_package(client(server), planned, package(tmp_path), keep=True)
    assert "recursion" not in looked(server)
    server.client("lambda").put_function_recursion_config(FunctionName=planned["kept"], RecursiveLoop="Terminate")
    finding = looked(server)["recursion"]
    assert finding.state == "problem"
    assert finding.fix is not None
    finding.fix()
    assert "recursion" not in looked(server)
    removing.remove_all(options(server))


def test_what_a_vpc_lacks_is_named_until_it_is_there(server: AwsServer) -> None:
    ec2 = server.client("ec2")
    network = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=network, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="workers", Description="x", VpcId=network)["GroupId"]
    names = {"subnets": (subnet,), "security_groups": (group,)}
    found = looked(server, **names)
    assert {what: f.state for what, f in found.items() if what.startswith("way")} == {
        "way to lambda": "problem",
        "way to s3": "warning",
        "way to dynamodb": "warning",
    }
    assert f"--vpc-id {network} --service-name com.amazonaws.us-east-1.lambda" in str(found["way to lambda"].remedy)
    assert found["security group"].state == "ok"

    table = ec2.create_route_table(VpcId=network)["RouteTable"]["RouteTableId"]
    ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
    s3 = {"ServiceName": "com.amazonaws.us-east-1.s3", "VpcEndpointType": "Gateway", "RouteTableIds": [table]}
    ec2.create_vpc_endpoint(VpcId=network, **s3)
    found = looked(server, **names)
    assert (found["way to s3"].state, found["way to dynamodb"].state) == ("ok", "warning")

    rules = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissionsEgress"]
    ec2.revoke_security_group_egress(GroupId=group, IpPermissions=rules)
    assert looked(server, **names)["security group"].state == "problem"
    assert looked(server, subnets=("subnet-00000000",), security_groups=(group,))["vpc"].state == "problem"
